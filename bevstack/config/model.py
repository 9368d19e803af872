"""Configuration of the stages of the detector."""

from __future__ import annotations

from dataclasses import dataclass

from bevstack.config.checks import check

CHANNEL_ORDERS = ("rgb", "bgr")


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How camera images become network input (BEVFormer v2 specification, section 3)."""

    size: tuple[int, int] = (640, 1600)  # (H, W) pixels at evaluation, after crop and resize
    keep_bottom: float = 640 / 900  # fraction of the height kept: sky is cropped from the top
    pad_to: int = 32  # pixels; images are zero-padded right and below to a multiple of this
    channel_order: str = "rgb"  # "rgb" for InternImage, "bgr" for the published ResNet
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # in channel order, 0..255
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)  # in channel order

    def __post_init__(self) -> None:
        check("images.size", min(self.size) >= 1, "hold two positive pixel counts", self.size)
        check("images.keep_bottom", 0 < self.keep_bottom <= 1, "lie in (0, 1]", self.keep_bottom)
        check("images.pad_to", self.pad_to >= 1, "be at least 1", self.pad_to)
        known = self.channel_order in CHANNEL_ORDERS
        check("images.channel_order", known, f"be one of {CHANNEL_ORDERS}", self.channel_order)
        check("images.std", min(self.std) > 0, "be positive", self.std)


@dataclass(frozen=True, kw_only=True)
class FPNConfig:
    """Feature pyramid (arXiv 1612.03144) over the last backbone stages."""

    in_stages: tuple[int, ...] = (1, 2, 3)  # backbone stages, 0 = stride 4
    num_outputs: int = 4  # levels; those beyond in_stages are stride-2 convolutions of the last
    channels: int = 256

    def __post_init__(self) -> None:
        ascending = list(self.in_stages) == sorted(set(self.in_stages)) and self.in_stages
        check("fpn.in_stages", bool(ascending), "ascend and hold at least one", self.in_stages)
        enough = self.num_outputs >= len(self.in_stages)
        check("fpn.num_outputs", enough, f"be >= {len(self.in_stages)}", self.num_outputs)
        check("fpn.channels", self.channels > 0, "be positive", self.channels)


@dataclass(frozen=True, kw_only=True)
class BEVEncoderConfig:
    """BEVFormer encoder, one frame (arXiv 2203.17270, section 3; v2 specification, section 5)."""

    num_layers: int = 6
    num_levels: int | None = None  # finest pyramid levels attended to; none: all. 4 as published
    num_heads: int = 8
    feedforward_channels: int = 512
    dropout: float = 0.1  # in every attention and feed-forward
    num_heights: int = 4  # Z, anchors in a pillar
    cross_points: int = 8  # P of spatial cross-attention, split over the anchors
    self_points: int = 4  # P of temporal self-attention, per queue
    self_queues: int = 2  # v1's two-queue parametrisation, kept by published weights
    num_camera_embeddings: int = 6  # published six roles; other rigs take the nearest by yaw
    # rows of cross-attention come in multiples of this, padded: few sizes for compiled code
    pair_step: int = 4_096
    activation_checkpointing: bool = False  # recompute each layer in the backward pass

    def __post_init__(self) -> None:
        positive = ("num_layers", "num_heads", "feedforward_channels", "num_heights", "self_points")
        counts = ("self_queues", "cross_points", "num_camera_embeddings", "pair_step")
        for name in (*positive, *counts):
            check(f"encoder.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        levels = self.num_levels
        check("encoder.num_levels", levels is None or levels > 0, "be positive or none", levels)
        check("encoder.dropout", 0 <= self.dropout < 1, "lie in [0, 1)", self.dropout)
        divides = self.cross_points % self.num_heights == 0
        wanted = f"be a multiple of num_heights = {self.num_heights}"
        check("encoder.cross_points", divides, wanted, self.cross_points)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Deformable-DETR decoder on the BEV map with box refinement (v2 specification, section 7)."""

    num_layers: int = 6
    num_heads: int = 8
    feedforward_channels: int = 512
    dropout: float = 0.1
    num_queries: int = 900
    num_groups: int = 1  # of so many queries in training (Group DETR); 11 in published t1, t2, t8
    num_points: int = 4  # P of cross-attention
    max_detections: int = 300  # kept per frame, over all classes (section 8)
    # of boxes of one class, turned and seen from above: of two that overlap more the better is
    # kept. None: both are, as published
    nms_iou: float | None = None
    post_range_m: tuple[float, float, float] = (61.2, 61.2, 10.0)  # |x|, |y|, |z| of kept centres
    activation_checkpointing: bool = False  # recompute each layer in the backward pass

    def __post_init__(self) -> None:
        positive = ("num_layers", "num_heads", "feedforward_channels", "num_queries", "num_points")
        for name in (*positive, "num_groups", "max_detections"):
            check(f"decoder.{name}", getattr(self, name) > 0, "be positive", getattr(self, name))
        check("decoder.dropout", 0 <= self.dropout < 1, "lie in [0, 1)", self.dropout)
        iou = self.nms_iou
        inside = iou is None or 0 <= iou <= 1
        check("decoder.nms_iou", inside, "lie in [0, 1] or be none", iou)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Matching costs and loss weights (v2 specification, sections 9 and 11.6)."""

    class_weight: float = 2.0  # focal loss and its matching cost
    box_weight: float = 0.75  # smooth-L1 loss and its matching cost
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    # over (cx, cy, log l, log w, cz, log h, sin, cos, vx, vy)
    code_weights: tuple[float, ...] = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2)
    perspective_weight: float = 1.0  # on all losses of the perspective head together
    official_parity: bool = False  # the released code's treatment of NaN; see Criterion

    def __post_init__(self) -> None:
        check("loss.code_weights", len(self.code_weights) == 10, "hold 10", self.code_weights)
