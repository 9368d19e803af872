"""Evidence of the BEV map that an element governs the own vehicle, for each manoeuvre.

The map is sampled below the element, and along the path of each manoeuvre: ahead to the point
beside the element, where the vehicle would stop or turn, and then along the turn. Letters: R
regions, B samples, C channels, M manoeuvres, P points of a path.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.geometry import BEVGrid
from bevstack.types.traffic_batch import TrafficViews
from bevstack.vocabulary import MANOEUVRES

MAX_CURVATURE = 0.2  # 1 / m
_CHANNELS, _HIDDEN = 16, 48
_BEFORE = (1 / 3, 2 / 3, 1.0)  # points ahead, as shares of the way to the element
_BEHIND_M = (6.0, 12.0, 20.0)  # points of the turn, metres behind the last of them
_TURNS = {"left": 1 / 10, "right": -1 / 7, "u_turn": 1 / 5}  # curvatures, 1 / m; straight on: 0
_NEAREST_M, _FARTHEST_M = 3.0, 60.0  # of the point beside the element
NUM_POINTS = 1 + len(_BEFORE) + len(_BEHIND_M)


class BEVMap(NamedTuple):
    """The BEV map of the same samples; ``known`` is False for a sample that has none."""

    bev: Tensor  # (B, C, Y, X)
    bev_from_ego: Tensor  # (B, 4, 4) float64
    known: Tensor  # (B,) bool


class MapEvidence(nn.Module):
    """A small network from an element and the map's samples to log-odds, which start as 0.

    Gradients stop at the map: the boxes are learned from their own labels alone, and keep their
    bits when only this network is trained. A sample without a map gets 0.
    """

    def __init__(self, *, bev_channels: int, element_channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(bev_channels + 1, _CHANNELS)
        self.output = nn.Sequential(
            nn.Linear(element_channels + NUM_POINTS * _CHANNELS + len(MANOEUVRES), _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, 1),
        )
        last = self.output[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(
        self,
        element: Tensor,  # (R, D)
        sampled: Tensor,  # (R, M, NUM_POINTS, C + 1) from ``sample_map``
        known: Tensor,  # (R,) bool
    ) -> Tensor:  # (R, M)
        """Return log-odds to add to those of the head without a map."""
        count, manoeuvres = sampled.shape[:2]
        projected = functional.relu(self.project(sampled.detach().to(element.dtype))).flatten(2)
        which = torch.eye(manoeuvres, dtype=element.dtype, device=element.device)
        inputs = (
            element[:, None].expand(-1, manoeuvres, -1),
            projected,
            which.expand(count, -1, -1),
        )
        odds: Tensor = self.output(torch.cat(inputs, -1))[..., 0]
        return odds * known[:, None]


def sample_map(
    found: BEVMap,
    grid: BEVGrid,
    views: TrafficViews,
    position_m: Tensor,  # (R, 3) of the elements in the ego frame
    sample: Tensor,  # (R,) int64
) -> Tensor:  # (R, M, NUM_POINTS, C + 1)
    """Sample the map below each element and along the path of each manoeuvre.

    The last column is 1 inside the grid; outside it, and for a sample without a map, all are 0.
    """
    curvature = views.ego_motion[sample, 1].to(position_m.dtype)
    points = map_points(position_m, curvature)  # (R, M, NUM_POINTS, 3)
    flat = points.flatten(0, 2)
    rows = sample[:, None, None].expand(points.shape[:3]).flatten()
    values = sample_bev(found.bev.detach(), grid, found.bev_from_ego, flat, rows)
    values = values * found.known[rows, None].to(values.dtype)
    return torch.unflatten(values, 0, points.shape[:3])


def map_points(
    position_m: Tensor,  # (R, 3) of the elements in the ego frame
    curvature: Tensor,  # (R,) of the own path, 1 / m, positive to the left
) -> Tensor:  # (R, M, NUM_POINTS, 3) on the road, in the ego frame
    """Return the points at which the map is sampled: below the element, then along the path.

    To the point beside the element the path is y = curvature * x^2 / 2, as for the place of an
    element; behind it an arc with the curvature of the manoeuvre.
    """
    curvature = curvature.clamp(-MAX_CURVATURE, MAX_CURVATURE)
    beside = position_m[:, 0].clamp(_NEAREST_M, _FARTHEST_M)  # (R,)
    ahead = beside[:, None] * beside.new_tensor(_BEFORE)  # (R, 3)
    ahead = torch.stack((ahead, (curvature[:, None] * ahead.square() / 2).clamp(-50, 50)), -1)
    course = (curvature * beside).atan()  # (R,)
    turns = curvature.new_tensor([_TURNS.get(name, 0.0) for name in MANOEUVRES])
    way = turns.new_tensor(_BEHIND_M)
    angle = turns[:, None] * way  # (M, 3) turned so far
    # The chord of an arc has half of its angle: sin(a/2) / (a/2) of its length.
    chord = way * torch.sinc(angle / (2 * torch.pi))
    direction = course[:, None, None] + angle / 2  # (R, M, 3)
    behind = torch.stack((chord * direction.cos(), chord * direction.sin()), -1)
    behind = behind + ahead[:, None, -1:]
    manoeuvres = len(MANOEUVRES)
    parts = (
        position_m[:, None, None, :2].expand(-1, manoeuvres, -1, -1),
        ahead[:, None].expand(-1, manoeuvres, -1, -1),
        behind,
    )
    plane = torch.cat(parts, 2)
    return torch.cat((plane, torch.zeros_like(plane[..., :1])), -1)


def sample_bev(
    bev: Tensor,  # (B, C, Y, X)
    grid: BEVGrid,
    bev_from_ego: Tensor,  # (B, 4, 4) float64
    position_m: Tensor,  # (R, 3) in the ego frame
    sample: Tensor,  # (R,) int64
) -> Tensor:  # (R, C + 1)
    """Sample the BEV map at points; the last column is 1 inside the grid, else all are 0."""
    poses = bev_from_ego.to(position_m.dtype)[sample]
    points = (poses[:, :3, :3] @ position_m[..., None])[..., 0] + poses[:, :3, 3]
    u, v, _ = (grid.to_normalised(points) * 2 - 1).unbind(1)
    inside = ((u.abs() < 1) & (v.abs() < 1)).to(bev.dtype)
    found = bev.new_zeros(len(points), bev.shape[1])
    for row in range(len(bev)):
        own = (sample == row).nonzero()[:, 0]
        place = torch.stack((u[own], v[own]), -1).to(bev.dtype)[None, None]  # (1, 1, n, 2)
        values = functional.grid_sample(bev[row : row + 1], place, align_corners=False)
        found = found.index_copy(0, own, values[0, :, 0].T)
    return torch.cat((found, torch.ones_like(found[:, :1])), 1) * inside[:, None]
