"""Boxes as primitives: solids with edges, dashes, and simple forms where there are very many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bevstack.viewer import wires
from bevstack.viewer.coloring import predicted_colors, true_colors
from bevstack.viewer.moment import BoxArrays, Floats, Moment
from bevstack.viewer.picking import picked_box
from bevstack.viewer.primitives import Lines, Solids
from bevstack.viewer.view_state import BY_ERROR, ViewState

# Boxes of one group that get edges. A browser without a GPU draws a wide line in 20 us, so that the
# 13 lines of each of 1,000 boxes take a quarter of a second; a solid box takes 30 us.
MAX_EDGED = 300
_CLEAR, _OPAQUE = 0.45, 1.0
_PICKED = (255, 255, 255)

Colors = NDArray[np.uint8]
Drawn = tuple[list[Solids], list[Lines]]


def draw_predicted(moment: Moment, model: int, state: ViewState) -> Drawn:
    """Return the shown boxes of a model: the first with faces, the second with edges alone."""
    rows = np.flatnonzero(moment.shown(model, state.min_score, state.labels))
    boxes = moment.predicted[model].boxes[rows]
    color = predicted_colors(moment, model, state)[rows]
    filled = "faces" in state.layers and model == 0
    return _boxes(str(model), f"predicted_{model}", boxes, color, state, filled=filled)


def draw_true(moment: Moment, state: ViewState) -> Drawn:
    """Return true boxes: dashed beside predicted ones, and like these if they are alone."""
    assert moment.true is not None  # the caller has checked it
    rows = np.flatnonzero(moment.shown_true(state.labels))
    boxes, color = moment.true[rows], true_colors(moment, state)[rows]
    if not moment.predicted:
        filled = "faces" in state.layers
        return _boxes("true", "true", boxes, color, state, filled=filled)
    many = len(boxes) > MAX_EDGED
    edges = wires.footprints(boxes) if many else wires.dashed(wires.box_edges(boxes))
    return [], [_box_lines("true", edges, color, 2.5 if state.color_by == BY_ERROR else 1.75)]


def draw_picked(moment: Moment, state: ViewState) -> Iterator[Lines]:
    """Yield a white frame around the picked box, if it is there."""
    boxes = picked_box(moment, state)
    if boxes is not None:
        edges = wires.box_edges(replace(boxes, size_m=boxes.size_m + 0.3))
        yield _box_lines("picked", edges, np.array([_PICKED], np.uint8), 4.0)


def _boxes(
    key: str, name: str, boxes: BoxArrays, color: Colors, state: ViewState, *, filled: bool
) -> Drawn:
    """Return boxes with edges and arrows; very many have opaque faces and no edges."""
    many = len(boxes) > MAX_EDGED
    solids, lines = [], []
    if filled:
        solids.append(_solid(name, boxes, color, _OPAQUE if many else _CLEAR))
    if not many:
        edges = np.concatenate((wires.box_edges(boxes), wires.headings(boxes)), 1)
        lines.append(_box_lines(name, edges, color, 2.5))
    elif not filled:
        lines.append(_box_lines(name, wires.footprints(boxes), color, 2.5))
    if "arrows" in state.layers:
        arrows, owners = wires.velocity_arrows(boxes)
        shown = len(arrows) // 3 if many else len(arrows)  # the shafts come before the heads
        lines.append(
            Lines(
                name=f"arrows_{key}",
                segments_m=arrows[:shown],
                color=color[owners[:shown]],
                width_px=2.5,
            )
        )
    return solids, lines


def _solid(name: str, boxes: BoxArrays, color: Colors, opacity: float) -> Solids:
    return Solids(
        name=name,
        center_m=boxes.center_m,
        size_m=boxes.size_m,
        yaw_rad=boxes.yaw_rad,
        color=color,
        opacity=opacity,
    )


def _box_lines(name: str, edges: Floats, color: Colors, width_px: float) -> Lines:
    """Return the lines of boxes, (D, E, 2, 3), each in the colour of its box."""
    per_box = edges.shape[1]
    return Lines(
        name=name,
        segments_m=edges.reshape(-1, 2, 3),
        color=np.repeat(color, per_box, axis=0),
        width_px=width_px,
    )
