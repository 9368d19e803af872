"""Targets of the traffic head: what each location and each region is to predict.

Letters: M images, S kinds of box, H W the map of stride 4, E labels, R regions, P pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.models.layers.nms import image_iou
from bevstack.models.traffic.dense import STRIDE_PX, Regions, cell_centers
from bevstack.types.traffic_batch import BOX_KINDS, TrafficTargets, TrafficViews

SIGMA_OF_SIDE = 1 / 6  # spread of an object's peak, in sides of its box
MIN_SIGMA_PX = 0.55 * STRIDE_PX
LEARNED_HEIGHT = 0.3  # a location learns the box whose peak is at least this high there
POSITIVE_IOU = 0.3  # above it a region is an element; scoring asks for 0.25
IGNORED_SHARE = 0.3  # a region of which an ignored element covers more is neither


class DenseTargets(NamedTuple):
    """Targets of every location."""

    heat: Tensor  # (M, S, H, W) 0 to 1, exactly 1 at the cell of each centre
    counts: Tensor  # (M, S, H, W) bool, False: the location is not learned
    # P locations that learn a box
    location: tuple[Tensor, Tensor, Tensor, Tensor]  # image, kind, row, column, each (P,)
    element: Tensor  # (P,) int64, index of the label
    weight: Tensor  # (P,) height of the peak


class RegionTargets(NamedTuple):
    """Targets of R regions."""

    element: Tensor  # (R,) int64, index of the label; -1: no element
    counts: Tensor  # (R,) bool, False: the score of the region is not learned


@torch.no_grad()
def dense_targets(
    targets: TrafficTargets,
    views: TrafficViews,
    labelled: Tensor,  # (M, S) bool
    shape: tuple[int, int],  # (H, W) of the map
) -> DenseTargets:
    """Return targets of every location; of several elements the highest peak counts.

    Locations outside the image, of kinds without labels, and within ignored elements are not
    learned, unless they belong to the peak of a learned element.
    """
    device = views.images.device
    centers = cell_centers(*shape, device)  # (H, W, 2)
    inside = (centers < views.image_size.flip(-1)[:, None, None]).all(-1)  # (M, H, W)
    counts = (inside[:, None] & labelled[:, :, None, None]).clone()
    heat = torch.zeros(counts.shape, device=device)
    owner = torch.full(counts.shape, -1, dtype=torch.int64, device=device)
    for index in range(len(targets)):
        place = int(targets.image[index]), int(targets.kind[index])
        box = targets.boxes_px[index]
        if bool(targets.ignored[index]):
            margin = STRIDE_PX
            covered = (centers > box[:2] - margin) & (centers < box[2:] + margin)
            counts[place] &= ~covered.all(-1)
            continue
        peak = _peak(box, centers)
        higher = peak > heat[place]
        heat[place] = torch.where(higher, peak, heat[place])
        owner[place] = torch.where(higher, index, owner[place])
    learned = (heat >= LEARNED_HEIGHT) & inside[:, None]
    counts |= learned & labelled[:, :, None, None]
    image, kind, row, column = learned.nonzero(as_tuple=True)
    location = (image, kind, row, column)
    return DenseTargets(heat, counts, location, owner[location], heat[location])


def _peak(box: Tensor, centers: Tensor) -> Tensor:  # (H, W)
    """Return a Gaussian around the centre of a box, scaled to 1 at the nearest cell."""
    middle = (box[:2] + box[2:]) / 2
    sigma = ((box[2:] - box[:2]) * SIGMA_OF_SIDE).clamp(min=MIN_SIGMA_PX)
    exponent = (((centers - middle) / sigma).square()).sum(-1) / 2
    return (exponent.min() - exponent).exp()


@torch.no_grad()
def region_targets(
    regions: Regions,
    targets: TrafficTargets,
    labelled: Tensor,  # (M, S) bool
) -> RegionTargets:
    """Assign every region to the label of its image and kind that overlaps it most."""
    count = len(regions.kind)
    counts = labelled[regions.image, regions.kind]
    if not len(targets):
        return RegionTargets(torch.full_like(regions.kind, -1), counts)
    same = regions.image[:, None] == targets.image
    same &= regions.kind[:, None] == targets.kind
    overlap = image_iou(regions.boxes_px[:, None], targets.boxes_px) * same  # (R, E)
    learned = overlap * ~targets.ignored
    best, element = learned.max(1)
    element = torch.where(best > POSITIVE_IOU, element, -1)
    covered = _share(regions.boxes_px, targets.boxes_px) * (same & targets.ignored)
    ignored = (covered > IGNORED_SHARE).any(1) & (element < 0)
    assert len(element) == count
    return RegionTargets(element, counts & ~ignored)


def _share(boxes: Tensor, covers: Tensor) -> Tensor:  # (R, 4), (E, 4) to (R, E)
    """Return the share of each box that each cover hides."""
    low = torch.maximum(boxes[:, None, :2], covers[:, :2])
    high = torch.minimum(boxes[:, None, 2:], covers[:, 2:])
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    return (high - low).clamp(min=0).prod(-1) / area.clamp(min=1e-6)[:, None]


__all__ = ["BOX_KINDS", "DenseTargets", "RegionTargets", "dense_targets", "region_targets"]
