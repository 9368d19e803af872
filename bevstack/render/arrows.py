"""Velocity arrows: from the front of a box to its predicted position a moment later."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ARROW_S = 1.0  # an arrow's length is the distance driven in this time
MIN_ARROW_MPS = 0.5  # slower objects count as standing and get no arrow


def arrow_tip(
    start_m: NDArray[np.float64],  # (2,) or (3,)
    velocity_mps: NDArray[np.float64],  # (2,) in the same frame; NaN: unknown
) -> NDArray[np.float64] | None:  # same shape as start_m
    """Return the end of an arrow from a point, at the same height.

    Return None if the object stands or its velocity is unknown.
    """
    if not float(np.linalg.norm(velocity_mps)) >= MIN_ARROW_MPS:  # false for NaN too
        return None
    tip_m = start_m.copy()
    tip_m[:2] += ARROW_S * velocity_mps
    return tip_m
