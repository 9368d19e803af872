"""Configuration of detectors in single pictures: Mask R-CNN and Cascade Mask R-CNN.

Defaults are those of the released Mask R-CNN configurations of InternImage-T, S and B.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bevstack.config.checks import check
from bevstack.config.internimage import InternImageConfig, detection_config
from bevstack.config.limits import check_section
from bevstack.config.training import TrainingConfig

BoxStds = tuple[float, float, float, float]
DETECTION2D = "detection2d"  # the task's name


@dataclass(frozen=True, kw_only=True)
class PictureConfig:
    """Size of a picture at the network's input: as large as fits, with its ratio of sides kept."""

    long_side: int = 1333  # largest length of the longer side, pixels
    short_side: int = 800  # largest length of the shorter side, pixels
    pad_to: int = 32  # sides are padded to a multiple of this, right and below

    def __post_init__(self) -> None:
        check_section("pictures", self)
        check("pictures.short_side", self.short_side > 0, "be positive", self.short_side)
        fits = self.short_side <= self.long_side
        check("pictures.long_side", fits, "be at least short_side", self.long_side)
        check("pictures.pad_to", self.pad_to > 0, "be positive", self.pad_to)


@dataclass(frozen=True, kw_only=True)
class PictureAugmentation:
    """Changes of pictures in training; by default a mirror alone, as in the 12-epoch schedule."""

    mirror: bool = True  # mirror left and right with probability 1/2
    # Shorter sides of which one is drawn for each picture, pixels; empty: that of pictures
    short_sides: tuple[int, ...] = ()
    # With probability 1/2, first reduce a picture to one of these shorter sides, and cut out a part
    # whose sides are drawn uniformly from ``crop_px``; empty: never
    crop_short_sides: tuple[int, ...] = ()
    crop_long_side: int = 1333  # largest longer side before the cut, pixels
    crop_px: tuple[int, int] = (384, 600)
    crop_keeps_object: bool = False  # cut again until an object remains

    def __post_init__(self) -> None:
        check_section("picture_augmentation", self)
        for name in ("short_sides", "crop_short_sides"):
            got = getattr(self, name)
            positive = min(got, default=1) > 0
            check(f"picture_augmentation.{name}", positive, "be positive numbers", got)
        low, high = self.crop_px
        requirement = "be (low, high) with 0 < low <= high"
        check("picture_augmentation.crop_px", 0 < low <= high, requirement, self.crop_px)


@dataclass(frozen=True, kw_only=True)
class RPNConfig:
    """Region proposal network (arXiv 1506.01497): proposals from anchors, and its training."""

    scale: float = 8.0  # side of an anchor, in strides of its map
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height over width of the anchors
    candidates: int = 1000  # best anchors of each map that are decoded
    proposals: int = 1000  # of an image
    train_candidates: int = 2000  # the same, in training
    train_proposals: int = 1000
    nms_iou: float = 0.7  # overlap of boxes of one map above which the worse one is dropped
    positive_iou: float = 0.7  # lowest overlap with an object of a positive anchor
    negative_iou: float = 0.3  # overlap with all objects below which an anchor is negative
    samples: int = 256  # anchors of an image that the losses see
    positive_share: float = 0.5  # of the samples, at most
    inside_only: bool = False  # train only anchors within the picture; in Cascade Mask R-CNN
    smooth_l1_beta: float = 0.0  # of the loss of boxes; 0: L1. Cascade Mask R-CNN: 1 / 9

    def __post_init__(self) -> None:
        check_section("rpn", self)
        for name in ("candidates", "proposals", "train_candidates", "train_proposals", "samples"):
            check(f"rpn.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        check("rpn.ratios", min(self.ratios, default=0) > 0, "be positive numbers", self.ratios)
        check("rpn.scale", self.scale > 0, "be positive", self.scale)
        ordered = 0 <= self.negative_iou <= self.positive_iou <= 1
        check("rpn.negative_iou", ordered, "lie in [0, positive_iou <= 1]", self.negative_iou)
        check("rpn.smooth_l1_beta", self.smooth_l1_beta >= 0, "be >= 0", self.smooth_l1_beta)
        check_share("rpn.positive_share", self.positive_share)


@dataclass(frozen=True, kw_only=True)
class RoIConfig:
    """Heads of the regions: classes, boxes and masks, in one stage or refined in several.

    Lists have one entry a stage.
    """

    # Heads
    num_convs: int = 0  # 3x3 convolutions with batch norm in a head of boxes; Cascade: 4
    num_linear: int = 2  # hidden linear maps of a head of boxes; Cascade: 1
    hidden_channels: int = 1024
    num_mask_convs: int = 4  # 3x3 convolutions in a head of masks
    box_cells: int = 7  # cells a side that a head of boxes sees
    mask_cells: int = 14  # the same for masks, which have twice as many
    # Divisors of the code of a box
    stds: tuple[BoxStds, ...] = ((0.1, 0.1, 0.2, 0.2),)
    # Training
    ious: tuple[float, ...] = (0.5,)  # lowest overlap of a positive region with an object
    weights: tuple[float, ...] = (1.0,)  # of the stage's losses
    match_best: bool = True  # an object's best region is positive too, if it overlaps enough
    giou: bool = False  # loss of decoded boxes by generalised overlap, else L1 of their codes
    box_weight: float = 1.0  # of the loss of boxes; Cascade: 10
    samples: int = 512  # regions of an image that the losses see
    positive_share: float = 0.25  # of the samples, at most
    # Results
    score_threshold: float = 0.05  # lowest score of a detection
    nms_iou: float = 0.5  # overlap of boxes of one class above which the worse one is dropped
    detections: int = 100  # of an image, at most
    mask_threshold: float = 0.5  # lowest value of a pixel of a mask

    def __post_init__(self) -> None:
        check_section("roi", self)
        stages = len(self.stds)
        check("roi.stds", stages > 0, "have an entry for each of at least one stage", self.stds)
        positive = all(min(stds) > 0 for stds in self.stds)
        check("roi.stds", positive, "be positive numbers", self.stds)
        for name in ("ious", "weights"):
            got = getattr(self, name)
            check(f"roi.{name}", len(got) == stages, f"have {stages} entries, as stds", got)
        for name in ("hidden_channels", "box_cells", "mask_cells", "samples", "detections"):
            check(f"roi.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        for name in ("num_convs", "num_mask_convs", "box_weight", "score_threshold"):
            check(f"roi.{name}", getattr(self, name) >= 0, "be >= 0", getattr(self, name))
        check("roi.num_linear", self.num_linear > 0, "be positive", self.num_linear)
        check_share("roi.positive_share", self.positive_share)


def check_share(name: str, share: float) -> None:
    """Check that a share lies in (0, 1].

    Raises:
        ValueError: it does not.
    """
    check(name, 0 < share <= 1, "lie in (0, 1]", share)


@dataclass(frozen=True, kw_only=True)
class Detection2DConfig:
    """A detector with masks for single pictures, and its training."""

    name: str
    class_names: tuple[str, ...]
    pictures: PictureConfig = field(default_factory=PictureConfig)
    picture_augmentation: PictureAugmentation = field(default_factory=PictureAugmentation)
    backbone: InternImageConfig = field(default_factory=lambda: detection_config("internimage_t"))
    channels: int = 256  # of the pyramid and the heads
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi: RoIConfig = field(default_factory=RoIConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        check_section(DETECTION2D, self)
        names = self.class_names
        check("class_names", len(names) > 0, "name at least one class", names)
        check("class_names", len(set(names)) == len(names), "name each class once", names)
        check("channels", self.channels > 0, "be positive", self.channels)
        stages = self.backbone.out_indices
        check("backbone.out_indices", stages == (0, 1, 2, 3), "be (0, 1, 2, 3)", stages)
