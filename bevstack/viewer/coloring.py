"""Colours of boxes: by class, identity, score, kind of error or model."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from bevstack.render.colors import CLASS_COLORS, RGB, class_color
from bevstack.viewer.moment import NO_IDENTITY, BoxArrays, ErrorKind, Floats, Indices, Moment
from bevstack.viewer.view_state import (
    BY_CLASS,
    BY_ERROR,
    BY_IDENTITY,
    BY_MODEL,
    BY_SCORE,
    ViewState,
)

Colors = NDArray[np.uint8]  # (D, 3) RGB

NEUTRAL: RGB = (150, 158, 170)
TRUTH: RGB = (236, 240, 246)
MODEL_COLORS: tuple[RGB, RGB] = ((94, 186, 255), (255, 166, 64))
FOUND: RGB = (84, 224, 188)
# In greyscale too, a false positive is darker than a found box, and a missed one lighter than it.
ERROR_COLORS: dict[ErrorKind, RGB] = {
    ErrorKind.UNCOUNTED: NEUTRAL,
    ErrorKind.TRUE_POSITIVE: FOUND,
    ErrorKind.FALSE_POSITIVE: (238, 66, 66),
    ErrorKind.FOUND: FOUND,
    ErrorKind.MISSED: (255, 205, 64),
}
_LOW, _HIGH = np.array((64, 76, 160.0)), np.array((255, 232, 92.0))  # of scores 0 and 1
_TURN = 0.61803398875  # of the hue from one identity to the next


def predicted_colors(moment: Moment, model: int, state: ViewState) -> Colors:
    """Return the colour of each predicted box of a model."""
    predicted = moment.predicted[model]
    boxes = predicted.boxes
    if state.color_by == BY_MODEL:
        return _same(MODEL_COLORS[model], len(boxes))
    if state.color_by == BY_SCORE:
        return score_colors(predicted.score)
    if state.color_by == BY_ERROR:
        return _error_colors(moment.predicted_kinds(model, state.distance_m))
    return _own_colors(boxes, moment.class_names, state.color_by)


def true_colors(moment: Moment, state: ViewState) -> Colors:
    """Return the colour of each true box: white beside predicted boxes, unless errors are shown."""
    assert moment.true is not None  # the caller draws true boxes
    if not moment.predicted:
        by = BY_IDENTITY if state.color_by == BY_IDENTITY else BY_CLASS
        return _own_colors(moment.true, moment.class_names, by)
    if state.color_by == BY_ERROR:
        return _error_colors(moment.true_kinds(state.model, state.distance_m, state.min_score))
    return _same(TRUTH, len(moment.true))


def identity_color(identity: int) -> RGB:
    """Return the colour of a track; those of successive numbers differ clearly."""
    hue = identity * _TURN % 1.0
    lightness = 0.72 if identity % 2 else 0.82
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def score_colors(score: Floats) -> Colors:
    """Return colours from dark blue, score 0, to light yellow, score 1."""
    share = np.clip(score, 0, 1)[:, None]
    colors: Colors = np.rint(_LOW + share * (_HIGH - _LOW)).astype(np.uint8)
    return colors


def css(color: RGB | Colors) -> str:
    """Return a colour in the notation of style sheets."""
    red, green, blue = (int(channel) for channel in color)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _own_colors(boxes: BoxArrays, class_names: tuple[str, ...], by: str) -> Colors:
    if by == BY_IDENTITY:
        found = [
            NEUTRAL if i == NO_IDENTITY else identity_color(i) for i in boxes.identity.tolist()
        ]
    else:
        palette = [class_color(class_names, label) for label in range(len(class_names))]
        found = [palette[label] for label in boxes.label.tolist()]
    return np.array(found, np.uint8).reshape(-1, 3)


def _error_colors(kinds: Indices) -> Colors:
    palette = np.array([ERROR_COLORS[kind] for kind in ErrorKind], np.uint8)
    colors: Colors = palette[kinds].reshape(-1, 3)
    return colors


def _same(color: RGB, count: int) -> Colors:
    return np.tile(np.array(color, np.uint8), (count, 1))


__all__ = [
    "CLASS_COLORS",
    "ERROR_COLORS",
    "MODEL_COLORS",
    "NEUTRAL",
    "TRUTH",
    "css",
    "identity_color",
    "predicted_colors",
    "score_colors",
    "true_colors",
]
