"""Parameters and operations of the published backbones, for `bevstack doctor --model`."""

from __future__ import annotations

from dataclasses import dataclass

# Image side at which the paper gives each variant's operations (arXiv 2211.05778, table 2).
PUBLISHED_SIZE_PX = {
    "internimage_t": 224,
    "internimage_s": 224,
    "internimage_b": 224,
    "internimage_l": 384,
    "internimage_xl": 384,
    "internimage_h": 640,
    "internimage_g": 512,
}
GIGA = 1e9


@dataclass(frozen=True)
class NetworkCount:
    """Parameters and multiply-accumulates (MACs) of one network for one image."""

    parameters: int
    conv_and_linear_macs: int
    attention_macs: int
    sampling_macs: int

    @property
    def total_macs(self) -> int:
        """Return the sum of all multiply-accumulates."""
        return self.conv_and_linear_macs + self.attention_macs + self.sampling_macs


@dataclass(frozen=True)
class ModelCount:
    """Counts of a backbone: with the paper's classification head, and as a detector uses it."""

    name: str
    image_size: tuple[int, int]  # (H, W) px
    classifier: NetworkCount  # with a head of 1000 classes
    backbone: NetworkCount  # without a head, as in a detector

    def lines(self) -> list[str]:
        """Return the heading of the table."""
        height, width = self.image_size
        return [f"{self.name}, one image of {height} x {width} px"]

    def table(self) -> list[tuple[str, ...]]:
        """Return titles, and rows of the classifier and of the backbone alone."""
        rows: list[tuple[str, ...]] = [("", "parameters", "conv + linear", "sampling", "total")]
        for label, count in (("classifier", self.classifier), ("backbone", self.backbone)):
            macs = (count.conv_and_linear_macs, count.sampling_macs, count.total_macs)
            figures = (f"{number / GIGA:.3f} GMAC" for number in macs)
            rows.append((label, f"{count.parameters:,}", *figures))
        return rows


def count_model(name: str, image_size: tuple[int, int] | None) -> ModelCount:
    """Count the parameters and operations of a published InternImage without allocating it.

    Args:
        name: one of ``INTERNIMAGE_VARIANTS``.
        image_size: (H, W) px. None: the size at which the paper gives the operations.

    Raises:
        ValueError: ``name`` is no variant, or ``image_size`` is not positive.
    """
    if name not in PUBLISHED_SIZE_PX:
        known = ", ".join(PUBLISHED_SIZE_PX)
        raise ValueError(f"--model must be one of {known}; got {name!r}")
    if image_size is not None and min(image_size) < 1:
        raise ValueError(f"--size must be two positive numbers of pixels; got {image_size}")
    import torch

    from bevstack.config.internimage import classification_config, detection_config
    from bevstack.models.backbones.internimage import InternImage
    from bevstack.models.classification.internimage_heads import InternImageClassifier

    size = image_size or (PUBLISHED_SIZE_PX[name],) * 2
    with torch.device("meta"):
        classifier = InternImageClassifier(classification_config(name), num_classes=1000)
        backbone = InternImage(detection_config(name))
    return ModelCount(name, size, _count(classifier, size), _count(backbone, size))


def _count(network: object, size: tuple[int, int]) -> NetworkCount:
    import torch

    from bevstack.costs.macs import count_macs, count_parameters

    assert isinstance(network, torch.nn.Module)
    macs = count_macs(network.eval(), torch.empty(1, 3, *size, device="meta"))
    return NetworkCount(
        parameters=count_parameters(network),
        conv_and_linear_macs=macs.conv_and_linear,
        attention_macs=macs.other_matmul,
        sampling_macs=macs.sampling,
    )
