"""Line segments of boxes, arrows, rings and grids, as arrays."""

from __future__ import annotations

import numpy as np

from bevstack.render.arrows import ARROW_S, MIN_ARROW_MPS
from bevstack.render.clipping import EDGES
from bevstack.viewer.moment import BoxArrays, Floats, Indices

_DASHES = 5  # of one edge of a dashed box
_HEAD_M = 0.8  # longest side of an arrow's head
_RING_STEPS = 64
_EDGES = np.array(EDGES)  # (12, 2) corners


def box_edges(boxes: BoxArrays) -> Floats:  # (D, 12, 2, 3)
    """Return the twelve edges of each box."""
    edges: Floats = boxes.corners()[:, _EDGES]
    return edges


def footprints(boxes: BoxArrays) -> Floats:  # (D, 4, 2, 3)
    """Return the four lower edges of each box."""
    return box_edges(boxes)[:, :4]  # those of the bottom come first


def headings(boxes: BoxArrays) -> Floats:  # (D, 1, 2, 3)
    """Return the line on the bottom of each box from its centre to its front."""
    corners = boxes.corners()
    center, front = corners[:, :4].mean(1), corners[:, [0, 3]].mean(1)
    lines: Floats = np.stack((center, front), 1)[:, None]
    return lines


def dashed(edges: Floats) -> Floats:  # (D, 12, 2, 3) -> (D, 12 x dashes, 2, 3)
    """Return edges as dashes, of which the first and the last touch the corners."""
    starts = np.arange(_DASHES) * 2 / (2 * _DASHES - 1)
    shares = np.stack((starts, starts + 1 / (2 * _DASHES - 1)), -1)  # (dashes, 2)
    start, way = edges[..., :1, :], edges[..., 1:, :] - edges[..., :1, :]
    dashes = start[..., None, :, :] + shares[..., None] * way[..., None, :, :]
    per_box: Floats = dashes.reshape(len(edges), edges.shape[1] * _DASHES, 2, 3)
    return per_box


def velocity_arrows(boxes: BoxArrays) -> tuple[Floats, Indices]:  # (S, 2, 3), (S,) rows
    """Return arrows on the ground from the front of each moving box, and the box of each line.

    They end where the box will be after a second, as in the pictures of ``bevstack show``. The
    shafts of all arrows come first, then the sides of their heads.
    """
    rows = np.flatnonzero(boxes.speed_mps >= MIN_ARROW_MPS)  # false for an unknown speed
    corners = boxes.corners()[rows]
    start = corners[:, [0, 3]].mean(1)
    tip = start.copy()
    tip[:, :2] += ARROW_S * boxes.velocity_mps[rows]
    forward = tip - start
    length = np.linalg.norm(forward, axis=1, keepdims=True)
    forward = forward / np.maximum(length, 1e-9)
    left = np.stack((-forward[:, 1], forward[:, 0], np.zeros(len(rows))), -1)
    head = np.minimum(_HEAD_M, 0.5 * length)
    barbs = [tip - head * forward + side * 0.5 * head * left for side in (1, -1)]
    lines = np.stack(
        [np.stack(pair, 1) for pair in ((start, tip), (tip, barbs[0]), (tip, barbs[1]))]
    )
    return lines.reshape(-1, 2, 3), np.tile(rows, 3)


def chain(points_m: Floats) -> Floats:  # (P, 3) -> (P - 1, 2, 3)
    """Return the segments of a line through points."""
    return np.stack((points_m[:-1], points_m[1:]), 1)


def ring(radius_m: float, height_m: float = 0.0) -> Floats:  # (S, 2, 3)
    """Return a circle around the vehicle."""
    angle = np.linspace(0, 2 * np.pi, _RING_STEPS + 1)
    points = np.stack(
        (radius_m * np.cos(angle), radius_m * np.sin(angle), np.full_like(angle, height_m)), -1
    )
    return chain(points)


def grid(reach_m: float, step_m: float, height_m: float = 0.0) -> Floats:  # (S, 2, 3)
    """Return the lines of a square grid around the vehicle."""
    places = np.arange(-reach_m, reach_m + step_m / 2, step_m)
    lines = [[(p, -reach_m, height_m), (p, reach_m, height_m)] for p in places]
    lines += [[(-reach_m, p, height_m), (reach_m, p, height_m)] for p in places]
    return np.array(lines, np.float64)


def flat(points_m: Floats, height_m: float) -> Floats:  # (P, 2) -> (P, 3)
    """Return points of the ground at a height."""
    return np.column_stack((points_m, np.full(len(points_m), height_m)))
