"""Configuration of a detector and its training."""

from __future__ import annotations

from dataclasses import dataclass, field

from bevstack.config.checks import check
from bevstack.config.internimage import InternImageConfig
from bevstack.config.limits import MAX_FRAMES, check_section
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
from bevstack.config.traffic import TrafficConfig
from bevstack.config.training import AugmentationConfig, TrainingConfig
from bevstack.geometry import BEVGrid
from bevstack.vocabulary import DETECTION_CLASSES


@dataclass(frozen=True, kw_only=True)
class Config:
    """Configuration of one detector: input, model, losses and training."""

    name: str  # shown in logs and reports
    class_names: tuple[str, ...] = DETECTION_CLASSES  # label order
    # Offsets of a clip's frames from the current frame 0, in steps of temporal.frame_interval_s,
    # in ascending order. Positive offsets are future frames, for offline use.
    frames: tuple[int, ...] = (0,)
    images: ImageConfig = field(default_factory=ImageConfig)
    grid: BEVGrid = field(default_factory=BEVGrid)
    backbone: InternImageConfig | ResNetConfig = field(default_factory=InternImageConfig)
    fpn: FPNConfig = field(default_factory=FPNConfig)
    encoder: BEVEncoderConfig = field(default_factory=BEVEncoderConfig)
    temporal: TemporalConfig | None = None  # given if, and only if, there are several frames
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    perspective: PerspectiveConfig | None = None  # None: no perspective supervision
    # None: learned queries only. Proposals need the perspective head.
    proposals: ProposalConfig | None = None
    traffic: TrafficConfig | None = None  # None: no lights and signs
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        check_section("", self)
        check_section("grid", self.grid)
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
        check(
            "fpn.channels",
            channels % 2 == 0,
            "be even (one half for rows, one for columns)",
            channels,
        )
        stages = self.backbone.out_indices
        returned = all(stage in stages for stage in self.fpn.in_stages)
        check(
            "fpn.in_stages",
            returned,
            f"be among backbone.out_indices = {stages}",
            self.fpn.in_stages,
        )
        levels = self.encoder.num_levels
        enough = levels is None or levels <= self.fpn.num_outputs
        requirement = f"be at most fpn.num_outputs = {self.fpn.num_outputs}"
        check("encoder.num_levels", enough, requirement, levels)
        self._check_perspective()
        self._check_traffic()
        symmetric = self.grid.frame == "ego" or not self.augmentation.mirror_scene
        requirement = "be False for the bev frame 'lidar', whose x axis points to the right"
        check("augmentation.mirror_scene", symmetric, requirement, self.augmentation.mirror_scene)

    @property
    def bev_levels(self) -> int:
        """Return L, the number of pyramid levels that the BEV encoder attends to, finest first."""
        return self.encoder.num_levels or self.fpn.num_outputs

    def _check_frames(self) -> None:
        frames = self.frames
        ascending = 0 in frames and list(frames) == sorted(set(frames))
        check("frames", ascending, "be in ascending order and include 0", frames)
        requirement = f"be at most {MAX_FRAMES} frames"
        check("frames", len(frames) <= MAX_FRAMES, requirement, frames)
        several = len(frames) > 1
        requirement = "be given for several frames" if several else "be None for frames (0,)"
        check("temporal", (self.temporal is not None) == several, requirement, self.temporal)

    def _check_traffic(self) -> None:
        traffic = self.traffic
        if traffic is None:
            return
        most = self.training.batch_size
        requirement = f"be at most training.batch_size = {most}"
        check("traffic.samples", traffic.samples <= most, requirement, traffic.samples)

    def _check_perspective(self) -> None:
        perspective = self.perspective
        if perspective is None:
            requirement = "be None without perspective, whose boxes are the proposals"
            check("proposals", self.proposals is None, requirement, self.proposals)
            steps = self.training.perspective_steps
            requirement = "be 0 without perspective, the section that these steps train"
            check("training.perspective_steps", steps == 0, requirement, steps)
            return
        levels, classes = len(perspective.strides), len(self.class_names)
        requirement = f"be {levels}, one for each of perspective.strides"
        check("fpn.num_outputs", self.fpn.num_outputs == levels, requirement, self.fpn.num_outputs)
        requirement = f"hold one size for each of the {classes} class_names"
        sizes = perspective.num_classes
        check("perspective.canonical_size_m", sizes == classes, requirement, sizes)
        first = 4 << self.fpn.in_stages[0]
        strides = tuple(first << level for level in range(levels))
        requirement = f"equal those of the pyramid, {strides}"
        check(
            "perspective.strides", perspective.strides == strides, requirement, perspective.strides
        )
