"""The whole configuration of a detector and its training."""

from __future__ import annotations

from dataclasses import dataclass, field

from bevstack.config.checks import check
from bevstack.config.internimage import InternImageConfig
from bevstack.config.model import (
    BEVEncoderConfig,
    DecoderConfig,
    FPNConfig,
    ImageConfig,
    LossConfig,
)
from bevstack.config.perspective import PerspectiveConfig, ProposalConfig
from bevstack.config.resnet import ResNetConfig
from bevstack.config.temporal import TemporalConfig
from bevstack.config.training import AugmentationConfig, TrainingConfig
from bevstack.geometry import BEVGrid
from bevstack.vocabulary import DETECTION_CLASSES


@dataclass(frozen=True, kw_only=True)
class Config:
    """One detector: what it sees, what it is made of, how it is trained."""

    name: str
    class_names: tuple[str, ...] = DETECTION_CLASSES  # label order
    # offsets of a clip's frames in steps of temporal.frame_interval_s, ascending, 0 among them;
    # positive ones look ahead (offline)
    frames: tuple[int, ...] = (0,)
    images: ImageConfig = field(default_factory=ImageConfig)
    grid: BEVGrid = field(default_factory=BEVGrid)
    backbone: InternImageConfig | ResNetConfig = field(default_factory=InternImageConfig)
    fpn: FPNConfig = field(default_factory=FPNConfig)
    encoder: BEVEncoderConfig = field(default_factory=BEVEncoderConfig)
    temporal: TemporalConfig | None = None  # given exactly where there are several frames
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    perspective: PerspectiveConfig | None = None  # none: no perspective supervision
    proposals: ProposalConfig | None = None  # none: learned queries alone; needs perspective
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        check("name", bool(self.name), "not be empty", self.name)
        unique = len(set(self.class_names)) == len(self.class_names) > 0
        check("class_names", unique, "be distinct and not empty", self.class_names)
        self._check_frames()
        channels = self.fpn.channels
        for name, heads in (("encoder", self.encoder), ("decoder", self.decoder)):
            divides = channels % heads.num_heads == 0
            check(
                f"{name}.num_heads", divides, f"divide fpn.channels = {channels}", heads.num_heads
            )
        check("fpn.channels", channels % 2 == 0, "be even (row and column halves)", channels)
        stages = self.backbone.out_indices
        given = all(stage in stages for stage in self.fpn.in_stages)
        check(
            "fpn.in_stages", given, f"be among backbone.out_indices = {stages}", self.fpn.in_stages
        )
        levels = self.encoder.num_levels
        enough = levels is None or levels <= self.fpn.num_outputs
        wanted = f"be at most fpn.num_outputs = {self.fpn.num_outputs}"
        check("encoder.num_levels", enough, wanted, levels)
        self._check_perspective()
        symmetric = self.grid.frame == "ego" or not self.augmentation.mirror_scene
        wanted = "be False for the bev frame 'lidar', which looks to the right"
        check("augmentation.mirror_scene", symmetric, wanted, self.augmentation.mirror_scene)

    @property
    def bev_levels(self) -> int:
        """L, pyramid levels that the BEV encoder attends to: the finest of them."""
        return self.encoder.num_levels or self.fpn.num_outputs

    def _check_frames(self) -> None:
        frames = self.frames
        ascending = 0 in frames and list(frames) == sorted(set(frames))
        check("frames", ascending, "ascend and hold 0", frames)
        several = len(frames) > 1
        wanted = "be given for several frames" if several else "be none for frames (0,)"
        check("temporal", (self.temporal is not None) == several, wanted, self.temporal)

    def _check_perspective(self) -> None:
        perspective = self.perspective
        if perspective is None:
            wanted = "be none without perspective, whose boxes they come from"
            check("proposals", self.proposals is None, wanted, self.proposals)
            steps = self.training.perspective_steps
            wanted = "be 0 without perspective, which they train"
            check("training.perspective_steps", steps == 0, wanted, steps)
            return
        levels, classes = len(perspective.strides), len(self.class_names)
        wanted = f"be {levels}, one a stride of perspective.strides"
        check("fpn.num_outputs", self.fpn.num_outputs == levels, wanted, self.fpn.num_outputs)
        wanted = f"hold one size for each of the {classes} class_names"
        given = perspective.num_classes
        check("perspective.canonical_size_m", given == classes, wanted, given)
        first = 4 << self.fpn.in_stages[0]
        strides = tuple(first << level for level in range(levels))
        wanted = f"be those of the pyramid, {strides}"
        check("perspective.strides", perspective.strides == strides, wanted, perspective.strides)
