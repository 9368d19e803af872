"""Configuration of Mask2Former (arXiv 2112.01527) on InternImage, for labels of pixels.

Defaults of the head are the released ones for Cityscapes, Pascal Context and NYU Depth V2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bevstack.config.checks import check
from bevstack.config.internimage import InternImageConfig, detection_config
from bevstack.config.limits import check_section
from bevstack.config.segmentation import (
    RELEASED_TRAINING,
    LabelAugmentation,
    LabelledSizeConfig,
    check_class_names,
)
from bevstack.config.training import TrainingConfig
from bevstack.vocabulary import IGNORED_LABEL


@dataclass(frozen=True, kw_only=True)
class MaskHeadConfig:
    """Pixel decoder, masked transformer decoder, and the losses of Mask2Former."""

    channels: int = 256
    num_heads: int = 8
    num_points: int = 4  # sampled points of a head and level, in the pixel decoder
    num_queries: int = 100
    encoder_layers: int = 6  # of the pixel decoder
    decoder_layers: int = 9
    encoder_feedforward_channels: int = 1024
    decoder_feedforward_channels: int = 2048
    norm_groups: int = 32  # of the pixel decoder's convolutions
    # Training
    sampled_points: int = 12_544  # of a mask, for the costs and the losses. Paper, 3.3
    oversampling: float = 3.0  # candidates for uncertain points / sampled points. PointRend
    uncertain_share: float = 0.75  # of the sampled points; the rest is random. PointRend
    class_weight: float = 2.0  # of the losses and of the matching cost, as the next two
    mask_weight: float = 5.0  # of the binary cross entropy
    dice_weight: float = 5.0
    empty_weight: float = 0.1  # of the class "no object" in the loss of classes

    def __post_init__(self) -> None:
        check_section("mask_head", self)
        for name in ("channels", "num_heads", "num_points", "num_queries", "norm_groups"):
            check(f"mask_head.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        heads = self.channels % self.num_heads == 0 and self.channels % 4 == 0
        check("mask_head.channels", heads, "be a multiple of num_heads and of 4", self.channels)
        groups = self.channels % self.norm_groups == 0
        check("mask_head.norm_groups", groups, f"divide {self.channels} channels", self.norm_groups)
        for part in ("encoder", "decoder"):
            for name in (f"{part}_layers", f"{part}_feedforward_channels"):
                got = getattr(self, name)
                check(f"mask_head.{name}", got > 0, "be positive", got)
        points = self.sampled_points
        check("mask_head.sampled_points", points > 0, "be positive", points)
        enough = self.oversampling >= 1
        check("mask_head.oversampling", enough, "be at least 1", self.oversampling)
        share = self.uncertain_share
        check("mask_head.uncertain_share", 0 <= share <= 1, "lie in [0, 1]", share)
        for name in ("class_weight", "mask_weight", "dice_weight", "empty_weight"):
            check(f"mask_head.{name}", getattr(self, name) >= 0, "be >= 0", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class MaskSegmentationConfig:
    """A Mask2Former that labels each pixel of a picture."""

    name: str
    class_names: tuple[str, ...]
    pictures: LabelledSizeConfig = field(default_factory=LabelledSizeConfig)
    label_augmentation: LabelAugmentation = field(default_factory=LabelAugmentation)
    backbone: InternImageConfig = field(default_factory=lambda: detection_config("internimage_h"))
    head: MaskHeadConfig = field(default_factory=MaskHeadConfig)
    training: TrainingConfig = field(default_factory=lambda: RELEASED_TRAINING)

    def __post_init__(self) -> None:
        check_section("mask_segmentation", self)
        check_class_names(self.class_names)
        fits = len(self.class_names) <= IGNORED_LABEL
        requirement = f"name at most {IGNORED_LABEL} classes, as labels have 8 bits"
        check("class_names", fits, requirement, f"{len(self.class_names)} names")
        stages = self.backbone.out_indices
        check("backbone.out_indices", stages == (0, 1, 2, 3), "be (0, 1, 2, 3)", stages)

    @property
    def num_outputs(self) -> int:
        """Return the number of classes, which the model scores at each pixel."""
        return len(self.class_names)
