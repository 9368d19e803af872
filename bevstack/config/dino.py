"""Configuration of DINO (arXiv 2203.03605) on InternImage; defaults are the released ones."""

from __future__ import annotations

from dataclasses import dataclass, field

from bevstack.config.checks import check
from bevstack.config.detection2d import PictureAugmentation, PictureConfig
from bevstack.config.internimage import InternImageConfig, detection_config
from bevstack.config.limits import check_section
from bevstack.config.training import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class DinoConfig:
    """Transformer of DINO: encoder, decoder, queries, and noise in training."""

    channels: int = 256
    num_heads: int = 8
    num_points: int = 4  # sampled points of a head and level
    num_levels: int = 4  # of the neck; the last is computed from the last stage
    encoder_layers: int = 6
    decoder_layers: int = 6
    feedforward_channels: int = 2048
    num_queries: int = 900
    norm_groups: int = 32  # of the neck
    temperature: float = 20.0  # of the encoding of positions
    # Training
    noised_queries: int = 1000  # objects with noise, in groups; their number is at most this
    label_noise: float = 0.5  # twice the share of noised objects that get a random class
    box_noise: float = 1.0  # largest shift of a corner, in half sides; a negative's is up to twice
    class_weight: float = 1.0  # of the focal loss
    box_weight: float = 5.0  # of the distance of centre, width and height
    overlap_weight: float = 2.0  # of the generalised overlap
    # Results
    detections: int = 300  # of an image

    def __post_init__(self) -> None:
        check_section("dino", self)
        for name in ("channels", "num_heads", "num_points", "num_queries", "norm_groups"):
            check(f"dino.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        heads = self.channels % self.num_heads == 0 and self.channels % 4 == 0
        check("dino.channels", heads, "be a multiple of num_heads and of 4", self.channels)
        groups = self.channels % self.norm_groups == 0
        check("dino.norm_groups", groups, f"divide {self.channels} channels", self.norm_groups)
        layers = min(self.encoder_layers, self.decoder_layers)
        check("dino.decoder_layers", layers > 0, "be positive, as encoder_layers", layers)
        most = self.num_queries * 1_000
        check("dino.detections", 0 < self.detections <= most, "be positive", self.detections)
        for name in ("noised_queries", "label_noise", "box_noise"):
            check(f"dino.{name}", getattr(self, name) >= 0, "be >= 0", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class DinoDetectorConfig:
    """A DINO detector for single pictures, and its training."""

    name: str
    class_names: tuple[str, ...]
    pictures: PictureConfig = field(default_factory=PictureConfig)
    picture_augmentation: PictureAugmentation = field(default_factory=PictureAugmentation)
    backbone: InternImageConfig = field(default_factory=lambda: detection_config("internimage_t"))
    # Two backbones of this size, the second of which gets the first one's maps; in CB-H
    composite: bool = False
    dino: DinoConfig = field(default_factory=DinoConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        check_section("dino_detector", self)
        names = self.class_names
        check("class_names", len(names) > 0, "name at least one class", names)
        check("class_names", len(set(names)) == len(names), "name each class once", names)
        stages = self.backbone.out_indices
        check("backbone.out_indices", stages == (1, 2, 3), "be (1, 2, 3)", stages)
        levels = self.dino.num_levels
        check("dino.num_levels", levels == 4, "be 4: three stages and one more map", levels)
