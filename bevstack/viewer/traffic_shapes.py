"""Shapes of traffic lights and signs: a housing on a pole, and the lanes that they govern."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.render import ElementMark
from bevstack.viewer import wires
from bevstack.viewer.moment import Floats

_LIGHT_M = (0.5, 0.5, 1.2)  # housing of a light: depth, width, height
_SIGN_M = (0.15, 0.9, 0.9)
_LANE_HEIGHT_M = 0.03
_POLE = (120, 128, 140)
_NEAR_M = 6.0  # a text that is nearer to another one is left out
_MAX_TEXTS = 6
_UNCLEAR = ("unknown", "off", "sign")


class Shapes(NamedTuple):
    """Fields of solids."""

    center_m: Floats
    size_m: Floats
    yaw_rad: Floats
    color: NDArray[np.uint8]


class Segments(NamedTuple):
    """Fields of lines."""

    segments_m: Floats
    color: NDArray[np.uint8]
    width_px: float


def traffic_solids(marks: Sequence[ElementMark]) -> Shapes:
    """Return a solid in the colour of the state for each light and sign with a place."""
    placed = [mark for mark in marks if mark.position_m is not None]
    return Shapes(
        center_m=np.array([mark.position_m for mark in placed], np.float64).reshape(-1, 3),
        size_m=np.array([_SIGN_M if m.kind == "sign" else _LIGHT_M for m in placed]).reshape(-1, 3),
        yaw_rad=np.array([mark.yaw_rad or 0.0 for mark in placed], np.float64),
        color=np.array([mark.color for mark in placed], np.uint8).reshape(-1, 3),
    )


def traffic_lines(marks: Sequence[ElementMark]) -> Segments:
    """Return a pole for each element, and the lanes of those that govern the own lane."""
    segments: list[Floats] = []
    colors: list[NDArray[np.uint8]] = []
    for mark in marks:
        if mark.position_m is not None:
            x, y, z = mark.position_m
            segments.append(np.array([[(x, y, 0.0), (x, y, z)]], np.float64))
            colors.append(np.array([_POLE], np.uint8))
        for lane in mark.lanes if mark.governs else ():
            part = wires.chain(wires.flat(lane[:, :2], _LANE_HEIGHT_M))
            segments.append(part)
            colors.append(np.tile(np.array(mark.color, np.uint8), (len(part), 1)))
    if not segments:
        return Segments(np.zeros((0, 2, 3)), np.zeros((0, 3), np.uint8), 3.0)
    return Segments(np.concatenate(segments), np.concatenate(colors), 3.0)


def traffic_texts(
    marks: Sequence[ElementMark],
) -> list[tuple[str, tuple[float, float, float]]]:
    """Return the captions of lights and signs with their places, far from each other.

    Elements that govern the own lane come first, then the nearest. Remaining ones in an unknown
    state get no text.
    """
    placed = [
        mark
        for mark in marks
        if mark.position_m is not None and (mark.governs or mark.name not in _UNCLEAR)
    ]
    order = sorted(placed, key=lambda mark: (not mark.governs, mark.distance_m or 0.0))
    texts: list[tuple[str, tuple[float, float, float]]] = []
    for mark in order:
        assert mark.position_m is not None  # chosen above
        x, y, z = mark.position_m
        if all(math.dist((x, y, z), place) >= _NEAR_M for _, place in texts):
            texts.append((mark.caption, (x, y, z + 1.0)))
    return texts[:_MAX_TEXTS]
