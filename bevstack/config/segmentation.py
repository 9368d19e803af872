"""Configuration of models that label each pixel of a picture: UperNet and the head of SegFormer.

Defaults are those of the released UperNet of InternImage-T for ADE20K.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bevstack.config.checks import check
from bevstack.config.internimage import InternImageConfig, detection_config
from bevstack.config.limits import check_section
from bevstack.config.training import TrainingConfig
from bevstack.vocabulary import IGNORED_LABEL

SEGMENTATION = "segmentation"  # the task's name
UPERNET, SEGFORMER = "upernet", "segformer"  # kinds of heads


@dataclass(frozen=True, kw_only=True)
class LabelledSizeConfig:
    """Size of a picture at the network's input: as large as fits, with its ratio of sides kept."""

    long_side: int = 2048  # largest length of the longer side, pixels
    short_side: int = 512  # largest length of the shorter side, pixels
    # Sides are rounded up to a multiple of this by another interpolation; 1: never
    multiple: int = 32
    # Logits of windows of this (height, width) are averaged, pixels; (0, 0): of the whole picture
    window_px: tuple[int, int] = (0, 0)
    window_step_px: tuple[int, int] = (0, 0)  # from one window to the next

    def __post_init__(self) -> None:
        check_section("labelled_pictures", self)
        for name in ("short_side", "multiple"):
            got = getattr(self, name)
            check(f"labelled_pictures.{name}", got > 0, "be positive", got)
        fits = self.short_side <= self.long_side
        check("labelled_pictures.long_side", fits, "be at least short_side", self.long_side)
        window, step = self.window_px, self.window_step_px
        whole = window == (0, 0) and step == (0, 0)
        covered = all(0 < s <= w for s, w in zip(step, window, strict=True))
        requirement = "be (0, 0) as window_px, or positive and at most window_px"
        check("labelled_pictures.window_step_px", whole or covered, requirement, step)


def check_class_names(names: tuple[str, ...]) -> None:
    """Check that there is a class, and none twice.

    Raises:
        ValueError: there is no class, or a name stands twice.
    """
    check("class_names", len(names) > 0, "name at least one class", names)
    check("class_names", len(set(names)) == len(names), "name each class once", names)


@dataclass(frozen=True, kw_only=True)
class LabelAugmentation:
    """Changes of pictures and their labels in training, in the order of the fields."""

    # Range of the factor on the longest sides of ``pictures``, drawn uniformly
    resize: tuple[float, float] = (0.5, 2.0)
    # Height and width of the part that is cut out, pixels; a smaller picture is padded to it
    crop_px: tuple[int, int] = (512, 512)
    # Cut again, at most 10 times, while one class has this share of the labelled pixels or more; 1:
    # never
    max_share: float = 0.75
    mirror: bool = True  # mirror left and right with probability 1/2
    photometric: bool = True  # change brightness, contrast, saturation and hue

    def __post_init__(self) -> None:
        check_section("label_augmentation", self)
        low, high = self.resize
        requirement = "be (low, high) with 0 < low <= high"
        check("label_augmentation.resize", 0 < low <= high, requirement, self.resize)
        positive = min(self.crop_px) > 0
        check("label_augmentation.crop_px", positive, "be positive", self.crop_px)
        share = self.max_share
        check("label_augmentation.max_share", 0 < share <= 1, "lie in (0, 1]", share)


@dataclass(frozen=True, kw_only=True)
class LabelHeadConfig:
    """Head that joins the backbone's four stages to logits at stride 4."""

    kind: str = UPERNET  # "upernet" (arXiv 1807.10221) or "segformer" (arXiv 2105.15203)
    channels: int = 512  # of its convolutions; segformer: 256
    pool_cells: tuple[int, ...] = (1, 2, 3, 6)  # sides of the pooled maps of upernet
    dropout: float = 0.1  # of whole channels before the logits
    # Channels of a second head on the third stage, used in training alone; 0: none
    auxiliary_channels: int = 256
    auxiliary_weight: float = 0.4  # of its loss

    def __post_init__(self) -> None:
        check_section("label_head", self)
        kinds = (UPERNET, SEGFORMER)
        check("label_head.kind", self.kind in kinds, f"be one of {kinds}", self.kind)
        check("label_head.channels", self.channels > 0, "be positive", self.channels)
        pools = self.pool_cells
        check("label_head.pool_cells", min(pools, default=0) > 0, "be positive numbers", pools)
        check("label_head.dropout", 0 <= self.dropout < 1, "lie in [0, 1)", self.dropout)
        for name in ("auxiliary_channels", "auxiliary_weight"):
            check(f"label_head.{name}", getattr(self, name) >= 0, "be >= 0", getattr(self, name))


# Recipe of the released UperNet of InternImage-T, S and B
RELEASED_TRAINING = TrainingConfig(
    num_steps=160_000,
    batch_size=16,
    learning_rate=6e-5,
    backbone_multiplier=1.0,
    weight_decay=0.05,
    decay_norms_and_biases=False,
    gradient_clip=1e9,  # the released training of these does not clip gradients
    warmup_steps=1_500,
    warmup_start=1e-6,
    schedule="linear",
    checkpoint_every=16_000,
    evaluate_every=16_000,
)


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """A model that labels each pixel of a picture."""

    name: str
    class_names: tuple[str, ...]
    # Channels of the logits; the released models of Cityscapes have 150 for its 19 classes
    num_outputs: int
    pictures: LabelledSizeConfig = field(default_factory=LabelledSizeConfig)
    label_augmentation: LabelAugmentation = field(default_factory=LabelAugmentation)
    backbone: InternImageConfig = field(default_factory=lambda: detection_config("internimage_t"))
    head: LabelHeadConfig = field(default_factory=LabelHeadConfig)
    training: TrainingConfig = field(default_factory=lambda: RELEASED_TRAINING)

    def __post_init__(self) -> None:
        check_section(SEGMENTATION, self)
        check_class_names(self.class_names)
        fits = len(self.class_names) <= self.num_outputs <= IGNORED_LABEL
        requirement = f"be from the number of classes to {IGNORED_LABEL}, as labels have 8 bits"
        check("num_outputs", fits, requirement, self.num_outputs)
        stages = self.backbone.out_indices
        check("backbone.out_indices", stages == (0, 1, 2, 3), "be (0, 1, 2, 3)", stages)
