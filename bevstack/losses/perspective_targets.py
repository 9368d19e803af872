"""Which location of which level learns which true box of a camera image (FCOS assignment).

Letters: I images, A true boxes (most of any image), P locations of all levels, M positive rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from bevstack.config.perspective import PerspectiveConfig
from bevstack.models.perspective.decode import invert_intrinsics
from bevstack.shapes import expect_shape
from bevstack.types.perspective import UNKNOWN_ATTRIBUTE, CameraAnnotations, CameraBoxes


@dataclass(frozen=True)
class PerspectiveTargets:
    """What the head should say: a class everywhere, and everything else at positive locations."""

    labels: Tensor  # (I, P) int64, K for background
    image: Tensor  # (M,) int64
    location: Tensor  # (M,) int64
    annotation: Tensor  # (M,) int64, index within the image's true boxes
    label: Tensor  # (M,) int64
    ltrb_px: Tensor  # (M, 4) distances to the sides, all >= 0
    centerness: Tensor  # (M,) 0 to 1
    boxes: CameraBoxes  # (M,) in the camera frame
    attribute: Tensor  # (M,) int64, UNKNOWN_ATTRIBUTE where there is none
    speed_mps: Tensor  # (M,) NaN where unknown


@torch.no_grad()
def assign_targets(
    annotations: Sequence[CameraAnnotations],  # I
    intrinsics: Tensor,  # (I, 3, 3) pixels
    locations_px: Tensor,  # (P, 2)
    level_sizes: Sequence[int],  # L: how many of P each level has
    config: PerspectiveConfig,
) -> PerspectiveTargets:
    """The targets of all images at once (FCOS, arXiv 1904.01355, 3.2, with centre sampling).

    A location can learn a box if it lies within ``center_radius`` strides of the box's middle and
    inside the box, both strictly, and if the farthest side is within the level's bounds, both
    inclusive; of several boxes it learns the one of smallest area, the first of equals. All others
    are background. A box smaller than ``min_extent`` strides counts as that large around its
    middle, here and for its centerness; a side that the location lies beyond is 0 pixels away.

    With ``config.official_parity`` an image whose first box has its middle at u = 0 exactly has no
    positive location at all, as in the released code.

    Raises:
        ValueError: not one matrix of intrinsics an image, labels or attributes out of range, or a
            true box that is not in front of its camera.
    """
    expect_shape("intrinsics", intrinsics, (len(annotations), 3, 3))
    for image, true in enumerate(annotations):
        _check_range(f"labels of image {image}", true.labels, 0, config.num_classes)
        name = f"attributes of image {image}"
        _check_range(name, true.attributes, UNKNOWN_ATTRIBUTE, config.num_attributes)
        _check_depths(image, true.center_m)
    true, present = _padded(annotations, locations_px.device)
    box = true.boxes_px[:, None]  # (I, 1, A, 4)
    spot = locations_px[:, None]  # (P, 1, 2)
    ltrb = torch.cat((spot - box[..., :2], box[..., 2:] - spot), -1)  # (I, P, A, 4)
    # (P, 1, 2) pixels by which a box is too small at a location of this level
    extent = _of_locations(
        [config.changes.min_extent * s for s in config.strides], level_sizes, box
    )
    short = (extent[:, None, None] - (box[..., 2:] - box[..., :2])).clamp(min=0) / 2  # (I, P, A, 2)
    fits = _near_middle(true.boxes_px, locations_px, level_sizes, short, config)
    fits &= _of_the_level(ltrb.amax(-1), level_sizes, config) & present[:, None]
    area = (true.boxes_px[..., 2:] - true.boxes_px[..., :2]).prod(-1)  # (I, A)
    area = torch.where(fits, area[:, None], torch.inf)
    if area.shape[-1]:
        smallest, chosen = area.min(-1)  # (I, P)
        labels = true.labels.gather(1, chosen)
        labels = torch.where(smallest.isfinite(), labels, config.num_classes)
    else:
        chosen = torch.zeros(area.shape[:2], dtype=torch.int64, device=area.device)
        labels = torch.full_like(chosen, config.num_classes)
    image, location = (labels < config.num_classes).nonzero(as_tuple=True)
    annotation = chosen[image, location]
    at = (image, annotation)
    at_chosen = (image, location, annotation)
    sides = ltrb[at_chosen]
    grown = sides + short[at_chosen].repeat(1, 2)
    return PerspectiveTargets(
        labels=labels,
        image=image,
        location=location,
        annotation=annotation,
        label=labels[image, location],
        ltrb_px=sides.clamp(min=0),
        centerness=centerness(grown),
        boxes=_boxes_of(true, intrinsics.to(labels.device))[at],
        attribute=true.attributes[at],
        speed_mps=true.speed_mps[at],
    )


def centerness(
    ltrb: Tensor,  # (..., 4) > 0
) -> Tensor:  # (...)
    """How central a location is: 1 in the middle of its box, 0 on a side (FCOS, equation 3)."""
    left, top, right, bottom = ltrb.unbind(-1)
    across = torch.minimum(left, right) / torch.maximum(left, right)
    down = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (across * down).sqrt()


@dataclass(frozen=True)
class _PaddedAnnotations:
    """The fields of ``CameraAnnotations``, (I, A, ...)."""

    boxes_px: Tensor
    labels: Tensor
    quaternion: Tensor
    center_m: Tensor
    size_m: Tensor
    attributes: Tensor
    speed_mps: Tensor


def _padded(
    annotations: Sequence[CameraAnnotations], device: torch.device
) -> tuple[_PaddedAnnotations, Tensor]:
    """All images' true boxes in one, and which rows (I, A) are none of padding."""
    most = max((len(a) for a in annotations), default=0)

    def joined(name: str) -> Tensor:
        of_images = [getattr(a, name) for a in annotations or (CameraAnnotations.empty(),)]
        padded = pad_sequence(of_images, batch_first=True)[: len(annotations)].to(device)
        return padded if name in ("labels", "attributes") else padded.float()

    counts = torch.tensor([len(a) for a in annotations], dtype=torch.int64, device=device)
    present = torch.arange(most, device=device) < counts[:, None]
    fields = _PaddedAnnotations.__dataclass_fields__
    return _PaddedAnnotations(**{name: joined(name) for name in fields}), present


def _near_middle(
    boxes_px: Tensor,  # (I, A, 4)
    locations_px: Tensor,  # (P, 2)
    level_sizes: Sequence[int],
    short: Tensor,  # (I, P, A, 2) pixels added to each side
    config: PerspectiveConfig,
) -> Tensor:  # (I, P, A) bool
    """Whether a location lies in the middle of a box, and in the box."""
    low, high = boxes_px[..., :2], boxes_px[..., 2:]  # (I, A, 2)
    middle = (low + high) / 2
    reach = _of_locations([config.center_radius * s for s in config.strides], level_sizes, low)
    reach = reach[:, None, None]  # (P, 1, 1)
    spot = locations_px[:, None]  # (P, 1, 2)
    left_top = torch.maximum(middle[:, None] - reach, low[:, None] - short)  # (I, P, A, 2)
    right_bottom = torch.minimum(middle[:, None] + reach, high[:, None] + short)
    inside = (spot > left_top).all(-1) & (spot < right_bottom).all(-1)
    if config.official_parity:
        inside &= (middle[:, :1, 0] != 0)[:, None]
    return inside


def _of_the_level(
    farthest: Tensor,  # (I, P, A) pixels to the farthest side
    level_sizes: Sequence[int],
    config: PerspectiveConfig,
) -> Tensor:  # (I, P, A) bool
    """Whether the level is the one for boxes of this size."""
    low = _of_locations((-1.0, *config.level_bounds_px), level_sizes, farthest)
    high = _of_locations((*config.level_bounds_px, torch.inf), level_sizes, farthest)
    return (farthest >= low[:, None]) & (farthest <= high[:, None])


def _of_locations(
    values: Sequence[float], level_sizes: Sequence[int], like: Tensor
) -> Tensor:  # (P,)
    """A value a level, given to each of its locations."""
    return torch.cat(
        [like.new_full((size,), value) for value, size in zip(values, level_sizes, strict=True)]
    )


def _boxes_of(true: _PaddedAnnotations, intrinsics: Tensor) -> CameraBoxes:  # (I, A)
    """True boxes, placed by where their centre is seen; projected in float64."""
    center = true.center_m.double()
    seen = center @ intrinsics.double().transpose(-1, -2)  # (I, A, 3)
    count = center.shape[1]
    return CameraBoxes(
        functional.normalize(true.quaternion, dim=-1),
        (seen[..., :2] / seen[..., 2:]).float(),
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
