"""The box that the pixels of a location show: the nearest one along the location's ray.

Letters: I images, A true boxes (the largest number in any image), P locations, M pairs of a
location and a box.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.types.perspective import CameraBoxes, pixel_rays, rotate

# Share of a box's length, width and height that counts as solid: corners of a cuboid are empty.
SOLID_SHARE = 0.8
BEHIND_HITS_M = 1e4  # places boxes that a ray misses behind all boxes that it hits
MIN_DIRECTION = 1e-9  # keeps the division by a ray's component finite


def depths_of_view(
    pairs: tuple[Tensor, Tensor, Tensor],  # (M,) each: image, location, index of the box
    locations_px: Tensor,  # (P, 2)
    boxes_px: Tensor,  # (I, A, 4)
    boxes: CameraBoxes,  # (I, A)
    present: Tensor,  # (I, A) bool, False for padding
) -> Tensor:  # (M,)
    """Return a number by which the nearest visible box of a location is the smallest; inf: hidden.

    A pair's ray leads through the point of the box's rectangle that is nearest to the location. The
    number is the depth at which the ray enters the solid part of the box, in metres. If it misses
    the box, the number is the depth of the box's centre, behind all boxes that are hit. A box is
    hidden if the ray enters another box of the image before that depth.
    """
    image, location, box = pairs
    rectangle = boxes_px[image, box]
    point = torch.minimum(locations_px[location].maximum(rectangle[:, :2]), rectangle[:, 2:])
    rays = pixel_rays(point, boxes.cam_from_image[image, box])  # (M, 3)
    entry = _entry_depths(rays, boxes[image]).masked_fill(~present[image], torch.inf)  # (M, A)
    own = entry.gather(1, box[:, None]).squeeze(1)
    missed = own.isinf()
    own = torch.where(missed, boxes.depth_m[image, box], own)
    nearest_other = entry.scatter(1, box[:, None], torch.inf).amin(1)
    return torch.where(nearest_other < own, torch.inf, own + BEHIND_HITS_M * missed)


def _entry_depths(
    rays: Tensor,  # (M, 3) camera frame, z = 1
    boxes: CameraBoxes,  # (M, A)
) -> Tensor:  # (M, A) metres, inf where the ray misses
    """Return the depth at which each ray enters each box's solid part; 0 from inside."""
    inverse = boxes.quaternion * boxes.quaternion.new_tensor((1, -1, -1, -1))
    direction = rotate(inverse, rays[:, None])  # (M, A, 3) object axes
    origin = -rotate(inverse, boxes.centers())
    half = 0.5 * SOLID_SHARE * boxes.size_m
    direction = torch.where(direction.abs() < MIN_DIRECTION, MIN_DIRECTION, direction)
    first, second = (-half - origin) / direction, (half - origin) / direction
    near = torch.minimum(first, second).amax(-1)
    far = torch.maximum(first, second).amin(-1)
    return torch.where((far >= near) & (far > 0), near.clamp(min=0), torch.inf)
