"""Parameters and operations of models that label pixels, for `bevstack doctor --model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bevstack.config.loading import packaged_configs
from bevstack.config.segmentation import SEGMENTATION
from bevstack.config.segmenters import SegmenterConfig, load_segmenter
from bevstack.costs.detection2d import GIGA, PartCounts

# The largest models are published at a square of their training pictures.
_SQUARE_SIDE_PX = 896
# (H, W) of the released operations of models that are published at another size than this one's.
_PUBLISHED_SIZES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "mask2former_internimage_h_512_cocostuff10k": (512, 512),
        "mask2former_internimage_h_480_pascal_context": (480, 480),
        "mask2former_internimage_h_480_nyu": (480, 480),
    }
)


@dataclass(frozen=True)
class SegmentationCount:
    """Counts of a segmenter for one picture."""

    name: str
    image_size: tuple[int, int]  # (H, W) px
    parts: tuple[PartCounts, ...]  # the auxiliary head has parameters and, in use, no operations

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
        return [f"{self.name}, one picture of {height} x {width} px"]

    def table(self) -> list[tuple[str, ...]]:
        """Return titles, a row of each part, and their total."""
        rows: list[tuple[str, ...]] = [("part", "parameters", "GMAC")]
        total = PartCounts("total", self.parameters, self.macs)
        for part in (*self.parts, total):
            rows.append((part.name, f"{part.parameters:,}", f"{part.macs / GIGA:.1f}"))
        return rows


def segmentation_models() -> list[str]:
    """Return the names of the packaged segmenters."""
    return packaged_configs(SEGMENTATION)


def published_size(config: SegmenterConfig) -> tuple[int, int]:
    """Return the (H, W) in pixels at which the released tables give a model's operations."""
    if config.name in _PUBLISHED_SIZES:
        return _PUBLISHED_SIZES[config.name]
    short = config.pictures.short_side
    return (short, short if short == _SQUARE_SIDE_PX else config.pictures.long_side)


def count_segmentation_model(
    name: str, image_size: tuple[int, int] | None = None
) -> SegmentationCount:
    """Count the parameters and operations of a packaged segmenter without allocating it.

    Interpolation, norms and softmax are not counted.

    Args:
        name: a packaged segmenter.
        image_size: (H, W) px; None: that at which the released tables give the operations.

    Raises:
        FileNotFoundError: there is no such segmenter.
        ValueError: ``image_size`` is not positive.
    """
    if image_size is not None and min(image_size) < 1:
        raise ValueError(f"--size must be two positive numbers of pixels; got {image_size}")
    config = load_segmenter(name)
    return count_segmenter(config, name, image_size or published_size(config))


def count_segmenter(
    config: SegmenterConfig, name: str, image_size: tuple[int, int]
) -> SegmentationCount:
    """Count a configured segmenter; see ``count_segmentation_model``."""
    import torch
    from torch import nn

    from bevstack.costs.macs import count_parameters, run_and_count, shapes_only
    from bevstack.models.segmentation.build import build_segmenter
    from bevstack.models.segmentation.model import Segmenter
    from bevstack.models.skeleton import skeleton

    with skeleton():
        model = build_segmenter(config).eval()
    heads: dict[str, nn.Module]
    if isinstance(model, Segmenter):
        heads = {"head": model.head}
    else:
        heads = {"pixel decoder": model.pixel_decoder, "decoder": model.decoder}
    parts = []
    with shapes_only(model):
        output = torch.empty(1, 3, *image_size)
        for title, module in {"backbone": model.backbone, **heads}.items():
            work, output = run_and_count(module, output)  # each part takes the last one's output
            parts.append(PartCounts(title, count_parameters(module), work.total))
    if isinstance(model, Segmenter) and model.auxiliary is not None:
        parts.append(PartCounts("auxiliary", count_parameters(model.auxiliary), 0))
    return SegmentationCount(name, image_size, tuple(parts))
