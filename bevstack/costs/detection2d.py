"""Parameters and operations of detectors for single pictures, for `bevstack doctor --model`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bevstack.config.detection2d import DETECTION2D, Detection2DConfig
from bevstack.config.loading import packaged_configs
from bevstack.config.picture_detectors import PictureDetectorConfig, load_picture_detector

if TYPE_CHECKING:
    from torch import Tensor

    from bevstack.models.detection2d.dino.model import Dino
    from bevstack.models.detection2d.model import RegionDetector

GIGA = 1e9
# Picture and regions at which the released tables give the operations.
PUBLISHED_SIZE_PX = (800, 1280)
BOX_REGIONS = 1000
MASK_REGIONS = 100
SCHEDULES = ("_1x", "_3x")  # the ends of names; a model's counts do not depend on them


@dataclass(frozen=True)
class PartCounts:
    """Parameters and multiply-accumulates of a part, for one picture."""

    name: str
    parameters: int
    macs: int


@dataclass(frozen=True)
class DetectionCount:
    """Counts of a detector for one picture."""

    name: str
    image_size: tuple[int, int]  # (H, W) px
    parts: tuple[PartCounts, ...]
    regions: bool  # counts are for fixed numbers of regions

    @property
    def parameters(self) -> int:
        """Return the number of parameters of all parts."""
        return sum(part.parameters for part in self.parts)

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of all parts."""
        return sum(part.macs for part in self.parts)

    def lines(self) -> list[str]:
        """Return the heading of the table."""
        height, width = self.image_size
        regions = f", {BOX_REGIONS} regions for boxes and {MASK_REGIONS} for masks"
        return [f"{self.name}, one picture of {height} x {width} px{regions * self.regions}"]

    def table(self) -> list[tuple[str, ...]]:
        """Return titles, a row of each part, and their total."""
        rows: list[tuple[str, ...]] = [("part", "parameters", "GMAC")]
        total = PartCounts("total", self.parameters, self.macs)
        for part in (*self.parts, total):
            rows.append((part.name, f"{part.parameters:,}", f"{part.macs / GIGA:.1f}"))
        return rows


def detection_models() -> dict[str, str]:
    """Return the names of the packaged detectors without a schedule, each with a configuration."""
    models = {}
    for name in packaged_configs(DETECTION2D):
        end = next((end for end in SCHEDULES if name.endswith(end)), "")
        models[name.removesuffix(end)] = name
    return models


def count_detection_model(name: str, image_size: tuple[int, int] | None = None) -> DetectionCount:
    """Count the parameters and operations of a packaged detector without allocating it.

    RoIAlign, norms, softmax and non-maximum suppression are not counted.

    Args:
        name: a packaged detector, with or without its schedule.
        image_size: (H, W) px; None: 800 x 1280, at which the released tables give the operations.

    Raises:
        FileNotFoundError: there is no such detector.
        ValueError: ``image_size`` is not positive.
    """
    if image_size is not None and min(image_size) < 1:
        raise ValueError(f"--size must be two positive numbers of pixels; got {image_size}")
    config = load_picture_detector(detection_models().get(name, name))
    return count_detector(config, name, image_size or PUBLISHED_SIZE_PX)


def count_detector(
    config: PictureDetectorConfig, name: str, image_size: tuple[int, int]
) -> DetectionCount:
    """Count a configured detector; see ``count_detection_model``."""
    import torch

    from bevstack.costs.macs import count_parameters, run_and_count, shapes_only
    from bevstack.models.detection2d.build import build_picture_model
    from bevstack.models.detection2d.model import RegionDetector
    from bevstack.models.skeleton import skeleton

    with skeleton():
        model = build_picture_model(config).eval()
    with shapes_only(model):
        work, maps = run_and_count(model.backbone, torch.empty(1, 3, *image_size))
        parts = [PartCounts("backbone", count_parameters(model.backbone), work.total)]
        work, pyramid = run_and_count(model.neck, maps)
        parts.append(PartCounts("neck", count_parameters(model.neck), work.total))
        if isinstance(model, RegionDetector):
            parts += _count_regions(model, pyramid)
        else:
            parts.append(_count_transformer(model, maps, image_size, before=work.total))
    return DetectionCount(name, image_size, tuple(parts), isinstance(config, Detection2DConfig))


def _count_regions(model: RegionDetector, pyramid: tuple[Tensor, ...]) -> list[PartCounts]:
    """Count the proposals and the heads of the stages."""
    import torch

    from bevstack.costs.macs import count_parameters, run_and_count
    from bevstack.models.detection2d.model import RegionStage

    work, _ = run_and_count(model.rpn, pyramid)
    parts = [PartCounts("rpn", count_parameters(model.rpn), work.total)]
    roi, channels = model.config.roi, model.config.channels
    for index, stage in enumerate(model.stages):
        assert isinstance(stage, RegionStage)
        for kind, head, regions, cells in (
            ("boxes", stage.box_head, BOX_REGIONS, roi.box_cells),
            ("masks", stage.mask_head, MASK_REGIONS, roi.mask_cells),
        ):
            work, _ = run_and_count(head, torch.empty(regions, channels, cells, cells))
            label = f"{kind} {index + 1}" if len(model.stages) > 1 else kind
            parts.append(PartCounts(label, count_parameters(head), work.total))
    return parts


def _count_transformer(
    model: Dino, maps: tuple[Tensor, ...], image_size: tuple[int, int], *, before: int
) -> PartCounts:
    """Count all but backbone and neck; ``before`` are the multiply-accumulates of the neck."""
    import torch

    from bevstack.costs.macs import count_parameters, run_and_count
    from bevstack.types.pictures2d import PictureBatch, PictureSize

    size = PictureSize(original=image_size, resized=image_size, padded=image_size)
    batch = PictureBatch(images=torch.empty(1, 3, *image_size), sizes=(size,), names=("",))
    work, _ = run_and_count(model, batch, maps)
    own = count_parameters(model) - count_parameters(model.backbone) - count_parameters(model.neck)
    return PartCounts("transformer", own, work.total - before)
