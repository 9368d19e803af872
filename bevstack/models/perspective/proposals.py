"""Boxes of the perspective head as places for object queries to start from.

BEVFormer v2 (arXiv 2211.10439, section 3.5). Letters: B batch, N cameras, I images that the
perspective head looked at, D detections an image, P proposals a sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config import PerspectiveConfig, ProposalConfig
from bevstack.geometry import BEVGrid, CameraRig, transform_points
from bevstack.models.layers.nms import suppress_in_bev
from bevstack.models.perspective.camera_views import PerspectiveViews
from bevstack.models.perspective.decode import PerspectiveDetections, detect
from bevstack.shapes import expect_shape
from bevstack.types import Boxes3D
from bevstack.types.perspective import rotate


@dataclass(frozen=True)
class Proposals:
    """Boxes to look for objects at, best first; no gradient leads back from them.

    Rows that are not ``valid`` (a sample has fewer boxes than there are places) hold nothing.
    """

    reference_points: Tensor  # (B, P, 3) float32, 0 to 1 over the grid
    valid: Tensor  # (B, P) bool
    boxes: Boxes3D  # (B, P) in the bev frame, augmented where the batch is
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
) -> Proposals:
    """The best boxes of all cameras of each sample; P is ``config.max_proposals``.

    Of each image the ``max_per_view`` best after suppression in the image; of those in the bev
    frame, inside the grid, the ``max_proposals`` best after suppression of boxes of one class seen
    from above, which joins what neighbouring cameras both see; of each class ``max_per_class`` at
    most. The paper does not say whether boxes of different classes suppress each other; they do not
    here, as in DD3D's joining of cameras, so that a rider stays beside the bicycle. Boxes of lost
    cameras and boxes that are not finite are left out. ``bev_augmentation`` moves the proposals as
    it moves annotations.
    """
    sizes = expect_shape("rig.camera_mask", rig.camera_mask, ("B", "N"))
    expect_shape("views.image", views.image, (views.output.logits.shape[0],))
    if bev_augmentation is not None:
        expect_shape("bev_augmentation", bev_augmentation, ("B", 3, 3), sizes)
        bev_augmentation = bev_augmentation[views.image // sizes["N"]]
    per_view = replace(perspective, max_detections=config.max_per_view)
    found = detect(views.output, views.intrinsics, per_view)
    bev_from_cam = rig.bev_from_cam.flatten(0, 1)[views.image]
    boxes = _boxes_in_bev(found, bev_from_cam, bev_augmentation)
    taken = found.valid & (found.scores >= config.score_threshold)
    taken = taken & rig.camera_mask.flatten()[views.image, None]
    taken = taken & boxes.isfinite().all(-1) & grid.contains(boxes)

    def by_sample(rows: Tensor) -> Tensor:  # (I, D, ...) to (B, N * D, ...)
        of_cameras = rows.new_zeros(sizes["B"] * sizes["N"], *rows.shape[1:])
        of_cameras[views.image] = rows
        return of_cameras.unflatten(0, (sizes["B"], sizes["N"])).flatten(1, 2)

    parts = (boxes, found.labels, found.scores, taken)
    return _choose(*(by_sample(part) for part in parts), grid=grid, config=config)


def _boxes_in_bev(
    found: PerspectiveDetections,  # (I, D)
    bev_from_cam: Tensor,  # (I, 4, 4) float64
    augmentation: Tensor | None,  # (I, 3, 3)
) -> Tensor:  # (I, D, 9) float32
    """Centre, size, yaw and velocity of boxes, upright in the (augmented) bev frame.

    An object moves the way it points, as fast as its camera says.
    """
    center = transform_points(bev_from_cam, found.boxes.centers().double())
    ahead = rotate(found.boxes.quaternion.double(), center.new_tensor((1.0, 0.0, 0.0)))
    ahead = ahead @ bev_from_cam[:, :3, :3].transpose(1, 2)
    size = found.boxes.size_m.double()
    if augmentation is not None:
        matrix = augmentation.to(center)
        center, ahead = (x @ matrix.transpose(1, 2) for x in (center, ahead))
        size = size * torch.linalg.det(matrix).abs().pow(1 / 3)[:, None, None]
    yaw = torch.atan2(ahead[..., 1], ahead[..., 0])
    velocity = found.speed_mps[..., None] * ahead[..., :2]
    return torch.cat((center, size, yaw[..., None], velocity), -1).float()


def _choose(
    boxes: Tensor,  # (B, M, 9) as ``_boxes_in_bev`` gives them
    labels: Tensor,  # (B, M)
    scores: Tensor,  # (B, M)
    taken: Tensor,  # (B, M) bool
    *,
    grid: BEVGrid,
    config: ProposalConfig,
) -> Proposals:
    """Best first, suppressed, and cut or filled up to ``config.max_proposals`` rows."""

    def in_order(index: Tensor) -> tuple[Tensor, ...]:
        rows = index[..., None].expand(-1, -1, boxes.shape[-1])
        narrow = (x.gather(1, index) for x in (labels, scores, taken))
        return (boxes.gather(1, rows), *narrow)

    index = scores.masked_fill(~taken, -1.0).argsort(dim=1, descending=True, stable=True)
    boxes, labels, scores, taken = in_order(index)
    footprints = boxes[..., (0, 1, 3, 4, 6)]
    taken = suppress_in_bev(footprints, labels, valid=taken, iou=config.bev_nms_iou)
    if config.max_per_class is not None:
        taken = _first_of_each_class(taken, labels, config.max_per_class)
    index = (~taken).to(torch.uint8).argsort(dim=1, stable=True)[:, : config.max_proposals]
    missing = config.max_proposals - index.shape[1]
    boxes, labels, scores, taken = (
        functional.pad(part, (0, 0) * (part.dim() - 2) + (0, missing)) for part in in_order(index)
    )
    boxes = torch.where(taken[..., None], boxes, 0.0)
    center, size, yaw, velocity = boxes.split((3, 3, 1, 2), -1)
    places = torch.where(taken[..., None], grid.to_normalised(center), 0.5)
    return Proposals(
        reference_points=places.clamp(0, 1),  # z may lie outside the grid's range
        valid=taken,
        boxes=Boxes3D(center, size, yaw.squeeze(-1), velocity),
        scores=scores.masked_fill(~taken, 0.0),
        labels=labels.masked_fill(~taken, 0),
    )


def _first_of_each_class(
    taken: Tensor,  # (B, M) bool
    labels: Tensor,  # (B, M)
    count: int,
) -> Tensor:  # (B, M) bool
    """Of the rows taken the first ``count`` of each class."""
    same = (labels[:, :, None] == labels[:, None]) & taken[:, None]
    return taken & (same.tril().sum(-1) <= count)
