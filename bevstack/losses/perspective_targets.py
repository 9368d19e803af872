"""Assignment of the locations of a camera image's pyramid to its true boxes (FCOS).

Letters: I images, A true boxes (the largest number in any image), P locations of all levels, M
positive rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from bevstack.config.perspective import NEAREST, PerspectiveConfig
from bevstack.losses.perspective_visibility import depths_of_view
from bevstack.models.perspective.decode import invert_intrinsics
from bevstack.shapes import expect_shape
from bevstack.types.perspective import (
    UNKNOWN_ATTRIBUTE,
    UNKNOWN_VISIBILITY,
    CameraAnnotations,
    CameraBoxes,
)


@dataclass(frozen=True)
class PerspectiveTargets:
    """Targets of the perspective head: a class at every location, a box at positive ones."""

    labels: Tensor  # (I, P) int64, K for background and ignored locations
    ignored: Tensor  # (I, P) bool, locations that learn no class: their boxes cannot be seen there
    image: Tensor  # (M,) int64
    location: Tensor  # (M,) int64
    annotation: Tensor  # (M,) int64, index within the image's true boxes
    label: Tensor  # (M,) int64
    ltrb_px: Tensor  # (M, 4) distances to left, top, right and bottom side, all >= 0
    centerness: Tensor  # (M,) 0 to 1
    boxes: CameraBoxes  # (M,) in the camera frame
    attribute: Tensor  # (M,) int64, UNKNOWN_ATTRIBUTE if not annotated
    speed_mps: Tensor  # (M,) NaN where unknown


@torch.no_grad()
def assign_targets(
    annotations: Sequence[CameraAnnotations],  # I
    intrinsics: Tensor,  # (I, 3, 3) pixels
    locations_px: Tensor,  # (P, 2)
    level_sizes: Sequence[int],  # L, number of locations of each level
    config: PerspectiveConfig,
) -> PerspectiveTargets:
    """Assign targets to all images at once (FCOS, arXiv 1904.01355, 3.2, with centre sampling).

    A location is a candidate for a box if

    - it lies within ``center_radius`` strides of the box's centre and inside the box (strictly);
    - the farthest side of the box is within the bounds of the location's level (inclusive).

    Of several boxes, a location learns the one of smallest area; of equal areas, the first. With
    ``config.changes.choice`` "nearest", it learns the nearest one that no other box hides there
    (``depths_of_view``). Boxes of a lower level of visibility than ``min_visibility`` are not
    learned. A location whose candidates are all hidden or of too low a level is ignored. All
    remaining locations are background. A box smaller than ``min_extent`` strides is enlarged to
    that size around its centre, for this choice and for its centerness. The distance to a side
    that the location lies beyond is 0 pixels.

    With ``config.official_parity``, an image has no positive location if the centre of its first
    box lies at u = 0 exactly, as in the released code.

    Raises:
        ValueError: not one matrix of intrinsics per image, labels or attributes out of range, or a
            true box that is not in front of its camera.
    """
    expect_shape("intrinsics", intrinsics, (len(annotations), 3, 3))
    for number, image_boxes in enumerate(annotations):
        _check_range(f"labels of image {number}", image_boxes.labels, 0, config.num_classes)
        name = f"attributes of image {number}"
        _check_range(name, image_boxes.attributes, UNKNOWN_ATTRIBUTE, config.num_attributes)
        _check_depths(number, image_boxes.center_m)
    true, present = _padded(annotations, locations_px.device)
    box = true.boxes_px[:, None]  # (I, 1, A, 4)
    points = locations_px[:, None]  # (P, 1, 2)
    ltrb = torch.cat((points - box[..., :2], box[..., 2:] - points), -1)  # (I, P, A, 4)
    # (P,) smallest width and height of a box at a location of this level, pixels
    extent = _at_locations(
        [config.changes.min_extent * s for s in config.strides], level_sizes, box
    )
    # (I, P, A, 2) pixels by which each side of a box moves outwards to reach that size
    margin = (extent[:, None, None] - (box[..., 2:] - box[..., :2])).clamp(min=0) / 2
    fits = _near_center(true.boxes_px, locations_px, level_sizes, margin, config)
    fits &= _within_level_bounds(ltrb.amax(-1), level_sizes, config) & present[:, None]
    boxes = _camera_boxes(true, intrinsics.to(locations_px.device))
    chosen, found = _choose(fits, true, boxes, present, locations_px, config)  # (I, P) each
    labels = torch.full_like(chosen, config.num_classes)
    if true.labels.shape[1]:
        labels = torch.where(found, true.labels.gather(1, chosen), labels)
    image, location = (labels < config.num_classes).nonzero(as_tuple=True)
    annotation = chosen[image, location]
    positives = (image, location, annotation)
    sides = ltrb[positives]
    enlarged = sides + margin[positives].repeat(1, 2)
    return PerspectiveTargets(
        labels=labels,
        ignored=fits.any(-1) & ~found,
        image=image,
        location=location,
        annotation=annotation,
        label=labels[image, location],
        ltrb_px=sides.clamp(min=0),
        centerness=centerness(enlarged),
        boxes=boxes[image, annotation],
        attribute=true.attributes[image, annotation],
        speed_mps=true.speed_mps[image, annotation],
    )


def _choose(
    fits: Tensor,  # (I, P, A) bool, candidates
    true: _PaddedAnnotations,
    boxes: CameraBoxes,  # (I, A)
    present: Tensor,  # (I, A) bool
    locations_px: Tensor,  # (P, 2)
    config: PerspectiveConfig,
) -> tuple[Tensor, Tensor]:
    """Return the box that each location learns (I, P), and True where there is one (I, P)."""
    if not fits.shape[-1]:
        none = torch.zeros(fits.shape[:2], dtype=torch.int64, device=fits.device)
        return none, none.bool()
    lowest = config.changes.min_visibility
    if lowest:
        known = true.visibility != UNKNOWN_VISIBILITY
        fits = fits & ~(known & (true.visibility < lowest))[:, None]
    if config.changes.choice == NEAREST:
        image, location, box = fits.nonzero(as_tuple=True)
        pairs = (image, location, box)
        rank = torch.full(fits.shape, torch.inf, device=fits.device)
        rank[pairs] = depths_of_view(pairs, locations_px, true.boxes_px, boxes, present)
    else:
        area = (true.boxes_px[..., 2:] - true.boxes_px[..., :2]).prod(-1)  # (I, A)
        rank = torch.where(fits, area[:, None], torch.inf)
    best, chosen = rank.min(-1)
    return chosen, best.isfinite()


def centerness(
    ltrb: Tensor,  # (..., 4) > 0
) -> Tensor:  # (...)
    """Return the centerness of locations: 1 at the centre of the box, 0 on a side (FCOS, eq. 3)."""
    left, top, right, bottom = ltrb.unbind(-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (horizontal * vertical).sqrt()


@dataclass(frozen=True)
class _PaddedAnnotations:
    """Fields of ``CameraAnnotations`` with a leading image axis, (I, A, ...)."""

    boxes_px: Tensor
    labels: Tensor
    quaternion: Tensor
    center_m: Tensor
    size_m: Tensor
    attributes: Tensor
    speed_mps: Tensor
    visibility: Tensor


def _padded(
    annotations: Sequence[CameraAnnotations], device: torch.device
) -> tuple[_PaddedAnnotations, Tensor]:
    """Return the true boxes of all images in one, and a mask (I, A) of the rows not padded."""
    largest_count = max((len(a) for a in annotations), default=0)

    def joined(name: str) -> Tensor:
        images = [getattr(a, name) for a in annotations or (CameraAnnotations.empty(),)]
        padded = pad_sequence(images, batch_first=True)[: len(annotations)].to(device)
        return padded if name in ("labels", "attributes", "visibility") else padded.float()

    counts = torch.tensor([len(a) for a in annotations], dtype=torch.int64, device=device)
    present = torch.arange(largest_count, device=device) < counts[:, None]
    fields = _PaddedAnnotations.__dataclass_fields__
    return _PaddedAnnotations(**{name: joined(name) for name in fields}), present


def _near_center(
    boxes_px: Tensor,  # (I, A, 4)
    locations_px: Tensor,  # (P, 2)
    level_sizes: Sequence[int],
    margin: Tensor,  # (I, P, A, 2) pixels added to each side
    config: PerspectiveConfig,
) -> Tensor:  # (I, P, A) bool
    """Return True for each location inside a box and near its centre."""
    low, high = boxes_px[..., :2], boxes_px[..., 2:]  # (I, A, 2)
    center = (low + high) / 2
    radius = _at_locations([config.center_radius * s for s in config.strides], level_sizes, low)
    radius = radius[:, None, None]  # (P, 1, 1)
    points = locations_px[:, None]  # (P, 1, 2)
    left_top = torch.maximum(center[:, None] - radius, low[:, None] - margin)  # (I, P, A, 2)
    right_bottom = torch.minimum(center[:, None] + radius, high[:, None] + margin)
    inside = (points > left_top).all(-1) & (points < right_bottom).all(-1)
    if config.official_parity:
        inside &= (center[:, :1, 0] != 0)[:, None]
    return inside


def _within_level_bounds(
    farthest: Tensor,  # (I, P, A) pixels to the farthest side
    level_sizes: Sequence[int],
    config: PerspectiveConfig,
) -> Tensor:  # (I, P, A) bool
    """Return True for each location whose level is responsible for boxes of this size."""
    low = _at_locations((-1.0, *config.level_bounds_px), level_sizes, farthest)
    high = _at_locations((*config.level_bounds_px, torch.inf), level_sizes, farthest)
    return (farthest >= low[:, None]) & (farthest <= high[:, None])


def _at_locations(
    values: Sequence[float], level_sizes: Sequence[int], like: Tensor
) -> Tensor:  # (P,)
    """Repeat one value per level over the locations of that level."""
    return torch.cat(
        [like.new_full((size,), value) for value, size in zip(values, level_sizes, strict=True)]
    )


def _camera_boxes(true: _PaddedAnnotations, intrinsics: Tensor) -> CameraBoxes:  # (I, A)
    """Convert true boxes to ``CameraBoxes``; centres are projected in float64."""
    center = true.center_m.double()
    projected = center @ intrinsics.double().transpose(-1, -2)  # (I, A, 3)
    count = center.shape[1]
    return CameraBoxes(
        functional.normalize(true.quaternion, dim=-1),
        (projected[..., :2] / projected[..., 2:]).float(),
        true.center_m[..., 2],
        true.size_m,
        invert_intrinsics(intrinsics)[:, None].expand(-1, count, -1, -1),
    )


def _check_range(name: str, values: Tensor, low: int, end: int) -> None:
    if len(values) and not low <= int(values.min()) <= int(values.max()) < end:
        raise ValueError(
            f"{name} must lie in {low}..{end - 1}; got {int(values.min())}..{int(values.max())}"
        )


def _check_depths(image: int, center_m: Tensor) -> None:
    ahead = (center_m[:, 2] > 0) & center_m.isfinite().all(-1)
    if not bool(ahead.all()):
        box = int((~ahead).nonzero()[0])
        raise ValueError(
            f"true boxes must lie in front of their camera; got box {box} of image {image} with "
            f"its centre at {center_m[box].tolist()} m: leave it out of the annotations"
        )
