"""Boxes of the perspective head as proposals for object queries.

BEVFormer v2 (arXiv 2211.10439, section 3.5). Letters: B batch, N cameras, I images that the
perspective head ran on, D detections an image, P proposals a sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config import PerspectiveConfig, ProposalConfig
from bevstack.geometry import BEVGrid, CameraRig, constant, transform_points
from bevstack.models.layers.nms import suppress_in_bev
from bevstack.models.layers.sizes import Sizes
from bevstack.models.perspective.camera_views import PerspectiveViews
from bevstack.models.perspective.decode import PerspectiveDetections, detect
from bevstack.shapes import expect_shape
from bevstack.types import Boxes3D
from bevstack.types.perspective import rotate


@dataclass(frozen=True)
class Proposals:
    """Boxes that object queries start from, best first, without gradient.

    A sample with fewer than P boxes has rows that are not ``valid``; these are empty.
    """

    reference_points: Tensor  # (B, P, 3) float32, 0 to 1 over the grid
    valid: Tensor  # (B, P) bool
    boxes: Boxes3D  # (B, P) in the bev frame, augmented if the batch is
    scores: Tensor  # (B, P) of the 3D boxes, 0 where not valid
    labels: Tensor  # (B, P) int64

    def __post_init__(self) -> None:
        sizes = expect_shape("reference_points", self.reference_points, ("B", "P", 3))
        expect_shape("valid", self.valid, ("B", "P"), sizes)
        expect_shape("boxes.yaw", self.boxes.yaw, ("B", "P"), sizes)
        expect_shape("scores", self.scores, ("B", "P"), sizes)
        expect_shape("labels", self.labels, ("B", "P"), sizes)


@torch.no_grad()
def find_proposals(
    views: PerspectiveViews,
    rig: CameraRig,  # leading axes (B,)
    *,
    grid: BEVGrid,
    perspective: PerspectiveConfig,
    config: ProposalConfig,
    bev_augmentation: Tensor | None = None,  # (B, 3, 3), augmented_bev_from_bev
    sizes: Sizes | None = None,
) -> Proposals:
    """Return the best boxes of all cameras of each sample as proposals, without gradient.

    1. Take the ``max_per_view`` best boxes of each image after suppression in the image.
    2. Transform them to the bev frame. Drop boxes outside the grid, below ``score_threshold``, of
       lost cameras, or not finite.
    3. Suppress boxes of one class that overlap seen from above. This merges boxes of one object
       from neighbouring cameras.
    4. Keep the ``max_per_class`` best of each class and the ``max_proposals`` best in all; P is
       ``max_proposals``.

    The paper does not state whether boxes of different classes suppress each other. Here they do
    not, as in DD3D's merging of cameras, so that a rider is kept beside the bicycle.
    ``bev_augmentation`` transforms proposals in the same way as annotations.

    Raises:
        ValueError: shapes that do not agree.
    """
    shape = expect_shape("rig.camera_mask", rig.camera_mask, ("B", "N"))
    expect_shape("views.image", views.image, (views.output.logits.shape[0],))
    if bev_augmentation is not None:
        expect_shape("bev_augmentation", bev_augmentation, ("B", 3, 3), shape)
        bev_augmentation = bev_augmentation[views.image // shape["N"]]
    detections = detect(
        views.output,
        views.intrinsics,
        perspective,
        sizes,
        max_detections=config.max_per_view,
    )
    bev_from_cam = rig.bev_from_cam.flatten(0, 1)[views.image]
    boxes = _boxes_in_bev(detections, bev_from_cam, bev_augmentation)
    valid = detections.valid & (detections.scores >= config.score_threshold)
    valid = valid & rig.camera_mask.flatten()[views.image, None]
    valid = valid & boxes.isfinite().all(-1) & grid.contains(boxes)

    def by_sample(rows: Tensor) -> Tensor:  # (I, D, ...) to (B, N * D, ...)
        cameras = rows.new_zeros(shape["B"] * shape["N"], *rows.shape[1:])
        cameras[views.image] = rows
        return torch.unflatten(cameras, 0, (shape["B"], shape["N"])).flatten(1, 2)

    parts = (boxes, detections.labels, detections.scores, valid)
    return _select(*(by_sample(part) for part in parts), grid=grid, config=config, sizes=sizes)


def _boxes_in_bev(
    detections: PerspectiveDetections,  # (I, D)
    bev_from_cam: Tensor,  # (I, 4, 4) float64
    augmentation: Tensor | None,  # (I, 3, 3)
) -> Tensor:  # (I, D, 9) float32
    """Return centre, size, yaw and velocity of upright boxes in the (augmented) bev frame.

    The velocity has the predicted speed and the direction of the heading.
    """
    center = transform_points(bev_from_cam, detections.boxes.centers().double())
    heading = rotate(detections.boxes.quaternion.double(), constant(center, (1.0, 0.0, 0.0)))
    heading = heading @ bev_from_cam[:, :3, :3].transpose(1, 2)
    size = detections.boxes.size_m.double()
    if augmentation is not None:
        matrix = augmentation.to(center)
        center, heading = (x @ matrix.transpose(1, 2) for x in (center, heading))
        size = size * torch.linalg.det(matrix).abs().pow(1 / 3)[:, None, None]
    yaw = torch.atan2(heading[..., 1], heading[..., 0])
    velocity = detections.speed_mps[..., None] * heading[..., :2]
    return torch.cat((center, size, yaw[..., None], velocity), -1).float()


def _select(
    boxes: Tensor,  # (B, M, 9) as ``_boxes_in_bev`` returns them
    labels: Tensor,  # (B, M)
    scores: Tensor,  # (B, M)
    valid: Tensor,  # (B, M) bool
    *,
    grid: BEVGrid,
    config: ProposalConfig,
    sizes: Sizes | None,
) -> Proposals:
    """Sort boxes by score, suppress, and cut or pad them to ``config.max_proposals`` rows."""

    def reorder(index: Tensor) -> tuple[Tensor, ...]:
        rows = index[..., None].expand(-1, -1, boxes.shape[-1])
        narrow = (x.gather(1, index) for x in (labels, scores, valid))
        return (boxes.gather(1, rows), *narrow)

    index = scores.masked_fill(~valid, -1.0).argsort(dim=1, descending=True, stable=True)
    boxes, labels, scores, valid = reorder(index)
    footprints = torch.cat((boxes[..., :2], boxes[..., 3:5], boxes[..., 6:7]), -1)
    valid = suppress_in_bev(footprints, labels, valid=valid, iou=config.bev_nms_iou, sizes=sizes)
    if config.max_per_class is not None:
        valid = _first_of_each_class(valid, labels, config.max_per_class)
    index = (~valid).to(torch.uint8).argsort(dim=1, stable=True)[:, : config.max_proposals]
    missing = config.max_proposals - index.shape[1]
    boxes, labels, scores, valid = (
        functional.pad(part, (0, 0) * (part.dim() - 2) + (0, missing)) for part in reorder(index)
    )
    boxes = boxes.masked_fill(~valid[..., None], 0.0)
    center, size, yaw, velocity = torch.split(boxes, [3, 3, 1, 2], -1)
    reference_points = grid.to_normalised(center).masked_fill(~valid[..., None], 0.5)
    return Proposals(
        reference_points=reference_points.clamp(0, 1),  # z may lie outside the grid's range
        valid=valid,
        boxes=Boxes3D(center, size, yaw.squeeze(-1), velocity),
        scores=scores.masked_fill(~valid, 0.0),
        labels=labels.masked_fill(~valid, 0),
    )


def _first_of_each_class(
    valid: Tensor,  # (B, M) bool
    labels: Tensor,  # (B, M)
    count: int,
) -> Tensor:  # (B, M) bool
    """Return True for the first ``count`` valid rows of each class."""
    same = (labels[:, :, None] == labels[:, None]) & valid[:, None]
    return valid & (same.tril().sum(-1) <= count)
