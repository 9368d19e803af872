"""Light that spreads in the lens and the air: glow around lit lamps, and veiling glare."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.renderer.primitives import C_PATTERN, Pattern

_GLOWING = (int(Pattern.LIGHT_HEAD), int(Pattern.ADVERTISEMENT))
_BRIGHT = 0.75  # of a colour's largest part, from which it glows
# width of the glow relative to the image's height, and its strength
_HALOS = ((0.006, 1.0), (0.022, 4.5))
_GLARE_REACH = 0.30  # distance from the sun, relative to the image's height, at which 1/e is left


def add_glow(
    linear: NDArray[np.float32],  # (H, W, 3) in and out
    owner: NDArray[np.int32],  # (H, W) row of the visible primitive, -1 for the background
    codes: NDArray[np.int32],  # (P, 4) of `Primitives`
) -> None:
    """Spread the light of lit traffic lights and advertisements over their surroundings."""
    glows = np.append(np.isin(codes[:, C_PATTERN], _GLOWING), False)[owner]
    rows, columns = np.nonzero(glows)
    values = linear[rows, columns]
    bright = values.max(axis=1, initial=0.0) > _BRIGHT
    if not bright.any():
        return
    rows, columns, values = rows[bright], columns[bright], values[bright]
    height, width = linear.shape[:2]
    margin = int(4 * _HALOS[-1][0] * height)  # beyond it, the widest halo has faded
    top, bottom = max(0, int(rows.min()) - margin), min(height, int(rows.max()) + margin)
    left, right = max(0, int(columns.min()) - margin), min(width, int(columns.max()) + margin)
    part = linear[top:bottom, left:right]
    lamps = np.zeros_like(part)
    lamps[rows - top, columns - left] = values
    half = (max(1, part.shape[1] // 2), max(1, part.shape[0] // 2))
    small = np.asarray(cv2.resize(lamps, half, interpolation=cv2.INTER_AREA), np.float32)
    halo = np.zeros(small.shape, np.float32)
    for reach, strength in _HALOS:
        blurred = cv2.GaussianBlur(small, (0, 0), max(0.6, reach * height / 2))
        halo += np.asarray(np.minimum(np.float32(strength) * blurred, 0.7), np.float32)
    part += np.asarray(cv2.resize(halo, (part.shape[1], part.shape[0])), np.float32)


def add_glare(
    linear: NDArray[np.float32],  # (H, W, 3) in and out
    owner: NDArray[np.int32],  # (H, W)
    sun_px: tuple[float, float] | None,
    strength: float,
) -> None:
    """Add a white veil that is strongest at the sun.

    Args:
        linear: the image.
        owner: row of the visible primitive, -1 for ground and sky.
        sun_px: column and row of the sun, which may lie outside the image; None behind the camera.
        strength: of the veil at a sun that nothing hides.
    """
    if sun_px is None:
        return
    height, width = linear.shape[:2]
    column, row = sun_px
    if not (-0.5 * width < column < 1.5 * width and -0.8 * height < row < 1.2 * height):
        return
    radius = max(2, height // 40)
    low, high = max(0, int(row) - radius), int(row) + radius
    patch = owner[low : max(high, 0), max(0, int(column) - radius) : max(0, int(column) + radius)]
    clear = float((patch < 0).mean()) if patch.size else 1.0
    rows, columns = np.ogrid[0:height:8, 0:width:8]
    distance = np.hypot(rows - row, columns - column) / height
    veil = np.exp(-distance / _GLARE_REACH) + 0.08
    veil = (strength * (0.25 + 0.75 * clear) * veil).astype(np.float32)
    whole = cv2.resize(veil, (width, height), interpolation=cv2.INTER_LINEAR)
    linear += whole[..., None] * np.array([1.0, 0.96, 0.86], np.float32)
