"""The decoder's box code, and detections decoded from it.

A box code is (cx, cy, log l, log w, cz, log h, sin yaw, cos yaw, vx, vy): metres in the bev frame
(centre of gravity), logarithms of metres, yaw counter-clockwise from x, metres a second. Published
BEVFormer weights use another order and another yaw; ``bevstack.interop.conversion`` converts
them once. Letters: B batch, Q queries, K classes, D detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bevstack.models.layers.nms import suppress_in_bev
from bevstack.models.layers.ranking import best_first
from bevstack.shapes import expect_shape
from bevstack.types import Boxes3D, Detections

CODE_SIZE = 10
CODE_NAMES = ("x", "y", "length", "width", "z", "height", "sin_yaw", "cos_yaw", "vx", "vy")
CENTER = (0, 1, 4)  # cx, cy, cz
VELOCITY = slice(8, 10)
NMS_CANDIDATES = 300  # (query, class) pairs a sample given to suppression, at least


@dataclass(frozen=True)
class DecoderOutput:
    """Predictions of every decoder layer for every query; detections come from the last layer.

    In training there may be several groups of queries along Q. Each group predicts all objects
    (Group DETR, arXiv 2207.13085).
    """

    logits: Tensor  # (layers, B, Q, K)
    codes: Tensor  # (layers, B, Q, 10) float32, metres
    num_groups: int = 1  # equal parts of Q
    # (B, Q) bool, queries whose predictions are used; None: all. Inactive queries (rows without a
    # proposal) are not matched, get no loss and detect nothing.
    active: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = expect_shape("logits", self.logits, ("layers", "B", "Q", "K"))
        expect_shape("codes", self.codes, ("layers", "B", "Q", CODE_SIZE), sizes)
        if self.active is not None:
            expect_shape("active", self.active, ("B", "Q"), sizes)
        if self.num_groups < 1 or sizes["Q"] % self.num_groups:
            raise ValueError(f"num_groups must divide {sizes['Q']} queries; got {self.num_groups}")


def encode(boxes: Boxes3D) -> Tensor:  # (..., 10)
    """Return the codes of boxes; an unknown velocity stays NaN."""
    cx, cy, cz = boxes.center.unbind(-1)
    log_l, log_w, log_h = boxes.size.log().unbind(-1)
    vx, vy = boxes.velocity.unbind(-1)
    sin, cos = boxes.yaw.sin(), boxes.yaw.cos()
    return torch.stack((cx, cy, log_l, log_w, cz, log_h, sin, cos, vx, vy), -1)


def decode(
    codes: Tensor,  # (..., 10)
) -> Boxes3D:
    """Return the boxes of codes, with yaw in [-pi, pi].

    Raises:
        ValueError: codes that do not have ten numbers each.
    """
    expect_shape("codes", codes, ("...", CODE_SIZE))
    cx, cy, log_l, log_w, cz, log_h, sin, cos, vx, vy = codes.unbind(-1)
    return Boxes3D(
        torch.stack((cx, cy, cz), -1),
        torch.stack((log_l, log_w, log_h), -1).exp(),
        torch.atan2(sin, cos),
        torch.stack((vx, vy), -1),
    )


def detections_from(
    output: DecoderOutput,
    *,
    max_detections: int,
    post_range_m: tuple[float, float, float],
    nms_iou: float | None = None,
) -> list[Detections]:  # B
    """Return the best boxes of each sample from the last layer, best first; no threshold.

    All (query, class) pairs are ranked together, so a query may appear with several labels. Pairs
    of equal score keep the order of queries and classes, in batches of any size. The
    ``max_detections`` best pairs are taken, and boxes whose centre is farther than ``post_range_m``
    from the origin along any axis are dropped (the coder of Deformable DETR and DETR3D). Inactive
    queries detect nothing.

    With ``nms_iou``, at least the 300 best pairs are taken. A box is suppressed if its overlap with
    a better box of the same class, seen from above, exceeds ``nms_iou``. The ``max_detections``
    best of the remaining boxes are returned.
    """
    candidates = max_detections if nms_iou is None else max(max_detections, NMS_CANDIDATES)
    scores = output.logits[-1].float().sigmoid()  # (B, Q, K)
    if output.active is not None:
        scores = scores.masked_fill(~output.active[..., None], -1.0)
    scores = scores.flatten(1)  # (B, Q * K)
    classes = output.logits.shape[-1]
    scores, index = best_first(scores, candidates)
    limit = torch.tensor(post_range_m, device=scores.device)
    detections = []
    for sample_scores, sample_index, codes in zip(scores, index, output.codes[-1], strict=True):
        boxes = decode(codes[sample_index // classes])
        near = (boxes.center.abs() <= limit).all(-1)
        sample = Detections(boxes, sample_scores, sample_index % classes)
        sample = sample[near & (sample_scores >= 0)]
        if nms_iou is not None:
            sample = _suppress(sample, nms_iou)[:max_detections]
        detections.append(sample)
    return detections


def _suppress(detections: Detections, iou: float) -> Detections:
    """Remove boxes that a better box of their class overlaps by more than ``iou`` from above."""
    boxes, labels = detections.boxes, detections.labels
    footprints = torch.cat((boxes.center[:, :2], boxes.size[:, :2], boxes.yaw[:, None]), -1)[None]
    valid = torch.ones_like(labels, dtype=torch.bool)[None]
    return detections[suppress_in_bev(footprints, labels[None], valid=valid, iou=iou)[0]]
