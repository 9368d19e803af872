"""Primitives of a drawing in the ego frame: solids, lines, points and texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.viewer.moment import Floats


@dataclass(frozen=True, kw_only=True)
class Solids:
    """Filled boxes."""

    name: str
    center_m: Floats  # (D, 3)
    size_m: Floats  # (D, 3)
    yaw_rad: Floats  # (D,)
    color: NDArray[np.uint8]  # (D, 3)
    opacity: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Line segments of one width."""

    name: str
    segments_m: Floats  # (S, 2, 3)
    color: NDArray[np.uint8]  # (S, 3)
    width_px: float


@dataclass(frozen=True, kw_only=True)
class Points:
    """Points of one size."""

    name: str
    points_m: Floats  # (P, 3)
    color: NDArray[np.uint8]  # (P, 3)
    size_m: float


@dataclass(frozen=True, kw_only=True)
class Text:
    """Short text at a place."""

    name: str
    text: str
    place_m: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """All primitives of one moment; a group without content is left out."""

    solids: tuple[Solids, ...] = ()
    lines: tuple[Lines, ...] = ()
    points: tuple[Points, ...] = ()
    texts: tuple[Text, ...] = ()
