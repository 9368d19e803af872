"""Configuration of the detector's stages: images, FPN, BEV encoder, decoder and loss."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.config.checks import check
from bevstack.config.limits import check_section

CHANNEL_ORDERS = ("rgb", "bgr")


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Preparation of camera images for the network (BEVFormer v2 specification, section 3)."""

    # (H, W) pixels at evaluation, after crop and resize. Released configurations
    size: tuple[int, int] = (640, 1600)
    # Fraction of the image height to keep. The top, mostly sky, is cropped. Released configurations
    keep_bottom: float = 640 / 900
    # Pixels. Images are zero-padded on the right and below to a multiple of this. Released code
    pad_to: int = 32
    channel_order: str = "rgb"  # "rgb" for InternImage, "bgr" for the published ResNet
    # Mean and standard deviation to normalise with, in channel order, for values 0..255; those of
    # ImageNet. InternImage's released code
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    # Most pixels that go through backbone and neck in one pass; at least one image does. More take
    # more memory. One image of 640x1600, six of 225x400. Own choice for two CPU cores
    pixels_per_pass: int = 2**20

    def __post_init__(self) -> None:
        check_section("images", self)
        at_once = self.pixels_per_pass
        check("images.pixels_per_pass", at_once >= 1, "be at least 1", at_once)
        check("images.size", min(self.size) >= 1, "hold two positive pixel counts", self.size)
        check("images.keep_bottom", 0 < self.keep_bottom <= 1, "lie in (0, 1]", self.keep_bottom)
        check("images.pad_to", self.pad_to >= 1, "be at least 1", self.pad_to)
        known = self.channel_order in CHANNEL_ORDERS
        check("images.channel_order", known, f"be one of {CHANNEL_ORDERS}", self.channel_order)
        check("images.std", min(self.std) > 0, "be positive", self.std)


@dataclass(frozen=True, kw_only=True)
class FPNConfig:
    """Feature pyramid network (FPN, arXiv 1612.03144) on the last backbone stages."""

    in_stages: tuple[int, ...] = (1, 2, 3)  # backbone stages; 0 has stride 4. Released code
    # L, pyramid levels. Levels beyond in_stages are stride-2 convolutions of the level before.
    # Released configurations: 5
    num_outputs: int = 4
    channels: int = 256  # C, of every level. Released configurations

    def __post_init__(self) -> None:
        check_section("fpn", self)
        ascending = list(self.in_stages) == sorted(set(self.in_stages)) and self.in_stages
        check(
            "fpn.in_stages",
            bool(ascending),
            "be in ascending order and hold at least one",
            self.in_stages,
        )
        enough = self.num_outputs >= len(self.in_stages)
        check("fpn.num_outputs", enough, f"be >= {len(self.in_stages)}", self.num_outputs)
        check("fpn.channels", self.channels > 0, "be positive", self.channels)


@dataclass(frozen=True, kw_only=True)
class BEVEncoderConfig:
    """BEVFormer encoder of one frame (arXiv 2203.17270, section 3; v2 specification, section 5).

    Defaults are those of the released configurations unless a comment gives another source.
    """

    num_layers: int = 6
    # Pyramid levels to attend to, finest first. None: all levels; published detectors: 4
    num_levels: int | None = None
    num_heads: int = 8  # M, attention heads
    feedforward_channels: int = 512  # hidden channels of each feed-forward network
    dropout: float = 0.1  # probability, in every attention and feed-forward network
    num_heights: int = 4  # Z, anchor points of a pillar
    # P, sampling points of a head in spatial cross-attention, shared among the anchor points
    cross_points: int = 8
    self_points: int = 4  # P, sampling points of a head and queue in temporal self-attention
    # Queues of temporal self-attention. BEVFormer v1 attends to two BEV maps; the published v2
    # weights keep both queues.
    self_queues: int = 2
    # Camera embeddings, one for each of nuScenes' six camera roles. A camera of another role takes
    # the embedding of the nearest yaw.
    num_camera_embeddings: int = 6
    # The number of visible (camera, query) pairs is padded to a multiple of this, so that compiled
    # code serves few different sizes. Own choice
    pair_step: int = 4_096
    activation_checkpointing: bool = False  # recompute each layer in backward, to save memory

    def __post_init__(self) -> None:
        check_section("encoder", self)
        positive = ("num_layers", "num_heads", "feedforward_channels", "num_heights", "self_points")
        counts = ("self_queues", "cross_points", "num_camera_embeddings", "pair_step")
        for name in (*positive, *counts):
            check(f"encoder.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        levels = self.num_levels
        check("encoder.num_levels", levels is None or levels > 0, "be positive or None", levels)
        check("encoder.dropout", 0 <= self.dropout < 1, "lie in [0, 1)", self.dropout)
        divides = self.cross_points % self.num_heights == 0
        requirement = f"be a multiple of num_heights = {self.num_heights}"
        check("encoder.cross_points", divides, requirement, self.cross_points)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Deformable-DETR decoder on the BEV map with box refinement (v2 specification, section 7).

    Defaults are those of the released configurations unless a comment gives another source.
    """

    num_layers: int = 6
    num_heads: int = 8  # M, attention heads
    feedforward_channels: int = 512  # hidden channels of each feed-forward network
    dropout: float = 0.1  # probability, in every attention and feed-forward network
    num_queries: int = 900  # Q, learned object queries
    # Groups of num_queries queries in training (Group DETR, arXiv 2207.13085); evaluation uses the
    # first group. 11 in the published t1, t2 and t8
    num_groups: int = 1
    num_points: int = 4  # P, sampling points of a head in cross-attention
    max_detections: int = 300  # of a frame, over all classes. v2 specification, section 8
    # IoU of rotated boxes in the bird's-eye view. Of two boxes of one class with a higher IoU, only
    # the box of higher score is kept. None: no suppression, as published
    nms_iou: float | None = None
    # Largest |x|, |y|, |z| of a detection's centre in the bev frame. v2 specification, section 8
    post_range_m: tuple[float, float, float] = (61.2, 61.2, 10.0)
    activation_checkpointing: bool = False  # recompute each layer in backward, to save memory

    def __post_init__(self) -> None:
        check_section("decoder", self)
        positive = ("num_layers", "num_heads", "feedforward_channels", "num_queries", "num_points")
        for name in (*positive, "num_groups", "max_detections"):
            check(f"decoder.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        check("decoder.dropout", 0 <= self.dropout < 1, "lie in [0, 1)", self.dropout)
        iou = self.nms_iou
        inside = iou is None or 0 <= iou <= 1
        check("decoder.nms_iou", inside, "lie in [0, 1] or be None", iou)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Matching costs and loss weights (v2 specification, sections 9 and 11.6)."""

    class_weight: float = 2.0  # of the focal loss and of its matching cost. Released code
    box_weight: float = 0.75  # of the smooth-L1 loss and of its matching cost. Released code
    focal_alpha: float = 0.25  # arXiv 1708.02002, section 3
    focal_gamma: float = 2.0  # arXiv 1708.02002, section 3
    # Weights of (cx, cy, log l, log w, cz, log h, sin, cos, vx, vy) in the box loss. Released code
    code_weights: tuple[float, ...] = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2)
    perspective_weight: float = 1.0  # factor on the sum of the perspective head's losses
    # Treat values that are not finite like the released code; see ``Criterion``.
    official_parity: bool = False

    def __post_init__(self) -> None:
        check_section("loss", self)
        check(
            "loss.code_weights", len(self.code_weights) == 10, "hold 10 weights", self.code_weights
        )
