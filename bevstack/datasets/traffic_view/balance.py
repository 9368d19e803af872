"""Balanced sampling of frames: those with rare states are drawn more often.

Repeat-factor sampling of LVIS (arXiv 1908.03195, section 2.3): a state c that a share f(c) of the
frames show has the factor max(1, (t / f(c)) ^ exponent); a frame has the largest of its states.
Letters: S samples, C states.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.traffic_view.front_view import FRONT
from bevstack.datasets.traffic_view.labels import (
    ElementIndex,
    class_of_color,
    class_of_meaning,
    class_of_shape,
)

COMMON_SHARE = 0.2  # t: states in more frames are not repeated
MAX_FACTOR = 8.0


def state_presence(index: ElementIndex, tokens: Sequence[str]) -> NDArray[np.bool_]:  # (S, C)
    """Return True where the front camera of a sample shows a state, meaning or any element."""
    columns: dict[tuple[str, int], int] = {}
    holders: list[set[int]] = []
    for token in tokens:
        held: set[int] = set()
        for element in index.elements.get((token, FRONT), ()):
            found = (
                ("color", class_of_color(element)),
                ("shape", class_of_shape(element)),
                ("meaning", class_of_meaning(element)),
                ("category", element.category),
            )
            held |= {columns.setdefault(state, len(columns)) for state in found if state[1] >= 0}
        holders.append(held)
    presence = np.zeros((len(tokens), len(columns)), np.bool_)
    for row, held in enumerate(holders):
        presence[row, sorted(held)] = True
    return presence


def repeat_factors(
    presence: NDArray[np.bool_],  # (S, C)
    exponent: float,
) -> NDArray[np.float64]:  # (S,)
    """Return how often each sample is drawn in an epoch, at least once."""
    share = presence.mean(axis=0) if len(presence) else np.zeros(presence.shape[1])
    factors = (COMMON_SHARE / np.maximum(share, 1e-9)) ** exponent
    factors = np.clip(factors, 1.0, MAX_FACTOR)
    return np.asarray(np.where(presence, factors, 1.0).max(axis=1, initial=1.0))


def balanced_order(
    factors: NDArray[np.float64],  # (S,)
    *,
    seed: int,
    epoch: int,
) -> NDArray[np.int64]:  # (n,)
    """Draw an order in which each sample occurs ``factor`` times, rounded up or down at random.

    The length of the epoch is the sum of the factors, rounded; it is the same in every epoch.
    """
    rng = np.random.default_rng((seed, epoch))
    ends = np.cumsum(factors)
    length = max(1, round(float(ends[-1])))
    points = (np.arange(length) + rng.uniform()) * (ends[-1] / length)
    drawn = np.minimum(np.searchsorted(ends, points, side="right"), len(factors) - 1)
    return np.asarray(rng.permutation(drawn), np.int64)
