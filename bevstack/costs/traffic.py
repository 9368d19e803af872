"""Parameters and operations of the traffic head, its pass through the backbone included."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from bevstack.config import Config
    from bevstack.costs.macs import MACCounts
    from bevstack.models.backbones.internimage import InternImage
    from bevstack.models.backbones.resnet import ResNet

NATIVE_SIZE = (900, 1600)  # (H, W) px of nuScenes' images


class TrafficCount(NamedTuple):
    """Counts of the traffic head for one frame."""

    parameters: int  # without the backbone's, which the boxes count
    passes: tuple[MACCounts, ...]  # of the backbone, of every location, of the regions
    view_size: tuple[int, int]  # (H, W) px of each front camera


def count_traffic(config: Config) -> TrafficCount:
    """Count the traffic head on the front cameras of nuScenes' first car, without allocating it.

    Every image is assumed to have the most regions. The sampling of regions, relevance and
    suppression are not counted: together they are below a thousandth.

    Raises:
        ValueError: the configuration has no traffic section.
    """
    import torch

    from bevstack.costs.macs import count_parameters, run_and_count, shapes_only
    from bevstack.datasets.traffic_view.front_view import whole_crop
    from bevstack.models.build_traffic import build_traffic_model, traffic_section

    class _Stages(torch.nn.Module):
        """The stages of the backbone that the head uses, as a module to count."""

        def __init__(self, backbone: InternImage | ResNet, stages: tuple[int, ...]) -> None:
            super().__init__()
            self.backbone, self.stages = backbone, stages

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            return self.backbone.run_stages(images, self.stages)

    section = traffic_section(config)
    with torch.device("meta"):
        model = build_traffic_model(config).eval()
    size = whole_crop(NATIVE_SIZE, section).size
    regions = section.num_cameras * section.max_candidates
    cells = section.roi_image_cells
    with shapes_only(model):
        images = torch.empty(section.num_cameras, 3, *size)
        backbone, maps = run_and_count(_Stages(model.backbone, section.stages), images)
        dense, _ = run_and_count(model.dense, maps, images)
        pixels, _ = run_and_count(model.regions.pixels, torch.empty(regions, 3, cells, cells))
        inputs = torch.empty(regions, model.regions.num_inputs)
        inner, hidden = run_and_count(model.regions.trunk, inputs)
        last, _ = run_and_count(model.regions.output, hidden)
        passes = [backbone, dense, pixels, inner, last]
        if model.regions.speed_limit is not None:
            reader = model.regions.speed_limit
            seen, inputs = run_and_count(
                reader.pixels, torch.empty(regions, 3, reader.cells, reader.cells)
            )
            read, _ = run_and_count(reader.output, torch.cat((inputs, hidden), 1))
            passes += [seen, read]
    own = count_parameters(model) - count_parameters(model.backbone)
    return TrafficCount(own, tuple(passes), size)
