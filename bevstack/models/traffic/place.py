"""Positions of elements: the bearing from the calibration, the depth from a prior of the size.

Letters: R regions, M images.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.models.traffic.dense import Regions
from bevstack.models.traffic.regions import RegionOutput
from bevstack.types.traffic_batch import TrafficViews

# Length in metres of the longer side of a housing with three lamps, of a lamp, and of a plate.
PRIOR_SIDE_M = (1.05, 0.25, 0.75)
_LAPLACE_STD = math.sqrt(2.0)  # standard deviation of a Laplace distribution of spread 1


class Place(NamedTuple):
    """Positions of R elements in the ego frame, in float64."""

    position_m: Tensor  # (R, 3) centre
    cov_m2: Tensor  # (R, 3, 3)
    heading_rad: Tensor  # (R,) direction that the face looks in
    heading_std_rad: Tensor  # (R,)
    log_depth: Tensor  # (R,) float32 with gradient, logarithm of metres along the optical axis


def prior_log_depth(
    boxes_px: Tensor,  # (R, 4)
    kind: Tensor,  # (R,) of BOX_KINDS
    focal_px: Tensor,  # (R,)
) -> Tensor:  # (R,)
    """Return the logarithm of the depth at which the longer side of a box has its usual length.

    The longer side serves upright and lying housings alike; the network corrects the rest.
    """
    side = (boxes_px[:, 2:] - boxes_px[:, :2]).amax(1).clamp(min=1.0)
    length = side.new_tensor(PRIOR_SIDE_M)[kind]
    return (focal_px.to(side.dtype) * length / side).log()


def locate(
    views: TrafficViews, regions: Regions, output: RegionOutput, *, bearing_std_px: float
) -> Place:
    """Return the position of every region's element, with its covariance.

    The spread of the depth lies along the line of sight. Across it the error is that of the box's
    centre, ``bearing_std_px``.
    """
    intrinsics, ego_from_cam = views.intrinsics[regions.image], views.ego_from_cam[regions.image]
    boxes = output.boxes_px.detach()
    log_depth = prior_log_depth(boxes, regions.kind, intrinsics[:, 1, 1]) + output.depth[:, 0]
    depth = log_depth.detach().double().clamp(-1, 7).exp()  # 0.4 m to 1.1 km
    center = torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes.new_ones(len(boxes), 1)), 1)
    ray = torch.linalg.solve(intrinsics, center.double()[..., None])  # (R, 3, 1), z is 1
    ray = (ego_from_cam[:, :3, :3] @ ray)[..., 0]  # (R, 3) metres a metre of depth
    position = ego_from_cam[:, :3, 3] + ray * depth[:, None]
    along = ray / torch.linalg.vector_norm(ray, dim=1, keepdim=True)
    relative = output.depth[:, 1].detach().double().exp() * _LAPLACE_STD
    spread_along = (relative * depth * torch.linalg.vector_norm(ray, dim=1)).square()
    spread_across = (bearing_std_px * depth / intrinsics[:, 1, 1]).square()
    outer = along[:, :, None] * along[:, None]
    eye = torch.eye(3, dtype=outer.dtype, device=outer.device)
    cov = spread_across[:, None, None] * (eye - outer) + spread_along[:, None, None] * outer
    bearing = torch.atan2(ray[:, 1], ray[:, 0])
    heading = bearing + math.pi + output.aspect[:, 0].detach().double()
    heading = torch.atan2(heading.sin(), heading.cos())
    return Place(
        position,
        cov,
        heading,
        output.aspect[:, 1].detach().double().exp() * _LAPLACE_STD,
        log_depth,
    )
