"""Picking of boxes: the first one that a ray meets, and the same box in other moments."""

from __future__ import annotations

import numpy as np

from bevstack.viewer.moment import NO_IDENTITY, BoxArrays, Floats, Indices, Moment
from bevstack.viewer.view_state import Picked, ViewState

_LEAST_SIDE_M = 0.4  # thinner boxes are as easy to hit as one of this size


def pick(
    moment: Moment,
    state: ViewState,
    origin_m: Floats,  # (3,) in the ego frame
    direction: Floats,  # (3,)
) -> Picked | None:
    """Return the nearest shown box on a ray; None if it meets none.

    Of a predicted and a true box at one place, the predicted one is picked.
    """
    best: tuple[float, Picked] | None = None
    for model, boxes, rows in _shown(moment, state):
        entry = ray_entries(boxes[rows], origin_m, direction)
        if not len(entry) or not np.isfinite(entry).any():
            continue
        nearest = int(np.argmin(entry))
        if best is not None and entry[nearest] >= best[0] - (1.0 if model is None else 0.0):
            continue
        row = int(rows[nearest])
        identity = int(boxes.identity[row])
        best = (
            float(entry[nearest]),
            Picked(model=model, row=row, identity=identity, scene=moment.scene, index=moment.index),
        )
    return None if best is None else best[1]


def ray_entries(boxes: BoxArrays, origin_m: Floats, direction: Floats) -> Floats:  # (D,)
    """Return the distance along a ray to each box, in lengths of the direction; inf if it misses.

    It is the slab method in the axes of each box.
    """
    cos, sin = np.cos(boxes.yaw_rad), np.sin(boxes.yaw_rad)
    offset = origin_m - boxes.center_m
    half = np.maximum(boxes.size_m, _LEAST_SIDE_M) / 2

    def turned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        return cos * x + sin * y, cos * y - sin * x

    start = np.stack((*turned(offset[:, 0], offset[:, 1]), offset[:, 2]), -1)
    x, y = turned(np.full(len(boxes), direction[0]), np.full(len(boxes), direction[1]))
    way = np.stack((x, y, np.full(len(boxes), direction[2])), -1)
    way = np.where(np.abs(way) < 1e-12, 1e-12, way)
    low, high = (-half - start) / way, (half - start) / way
    enter = np.minimum(low, high).max(1, initial=-np.inf)
    leave = np.maximum(low, high).min(1, initial=np.inf)
    hit = (enter <= leave) & (leave > 0)
    return np.where(hit, np.maximum(enter, 0.0), np.inf)


def picked_box(moment: Moment, state: ViewState) -> BoxArrays | None:
    """Return the picked box, or that of its track in another moment; None if it is not there."""
    row = picked_row(moment, state)
    if row is None or state.picked is None:
        return None
    boxes = _boxes(moment, state.picked.model)
    return None if boxes is None else boxes[np.array([row])]


def picked_row(moment: Moment, state: ViewState) -> int | None:
    """Return the row of the picked box in a moment; None if it is not there."""
    picked = state.picked
    if picked is None or picked.scene != moment.scene:
        return None
    boxes = _boxes(moment, picked.model)
    if boxes is None:
        return None
    if picked.index == moment.index:
        return picked.row if picked.row < len(boxes) else None
    rows = np.flatnonzero((boxes.identity == picked.identity) & (boxes.identity != NO_IDENTITY))
    return int(rows[0]) if len(rows) else None


def _boxes(moment: Moment, model: int | None) -> BoxArrays | None:
    if model is None:
        return moment.true
    return moment.predicted[model].boxes if model < len(moment.predicted) else None


def _shown(moment: Moment, state: ViewState) -> list[tuple[int | None, BoxArrays, Indices]]:
    shown: list[tuple[int | None, BoxArrays, Indices]] = []
    if "predicted" in state.layers:
        for model, predicted in enumerate(moment.predicted):
            rows = np.flatnonzero(moment.shown(model, state.min_score, state.labels))
            shown.append((model, predicted.boxes, rows))
    if "true" in state.layers and moment.true is not None:
        shown.append((None, moment.true, np.flatnonzero(moment.shown_true(state.labels))))
    return shown
