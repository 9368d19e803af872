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
from bevstack.config.training import AugmentationConfig, TrainingConfig
from bevstack.geometry import BEVGrid

# nuScenes detection classes in label order (v2 specification, section 0)
NUSCENES_CLASSES = (
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One detector: what it sees, what it is made of, how it is trained."""

    name: str
    class_names: tuple[str, ...] = NUSCENES_CLASSES  # label order
    frames: tuple[int, ...] = (0,)  # key-frame offsets of a clip, ascending
    images: ImageConfig = field(default_factory=ImageConfig)
    grid: BEVGrid = field(default_factory=BEVGrid)
    backbone: InternImageConfig = field(default_factory=InternImageConfig)
    fpn: FPNConfig = field(default_factory=FPNConfig)
    encoder: BEVEncoderConfig = field(default_factory=BEVEncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        check("name", bool(self.name), "not be empty", self.name)
        unique = len(set(self.class_names)) == len(self.class_names) > 0
        check("class_names", unique, "be distinct and not empty", self.class_names)
        check("frames", self.frames == (0,), "be (0,): the current frame alone", self.frames)
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
