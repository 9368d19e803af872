"""The true box that each prediction sees: its direction fits, and its range roughly.

Matches within metres, as the metric's, miss a box whose range is wrong. A prediction sees a true
box of its sample if its direction from the ego lies within ``WIDTH_SHARE`` of the true box's half
angular width plus ``MARGIN_DEG``, and its range is within a factor of ``RANGE_FACTOR``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.box_errors import yaws
from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth

WIDTH_SHARE, MARGIN_DEG, RANGE_FACTOR = 0.6, 0.75, 1.7
NOTHING = -1

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """The boxes that predictions see, among the true and predicted boxes that are scored."""

    truth_of: Rows  # (M,) row of the true box of the same class that a prediction sees first
    duplicate: NDArray[np.bool_]  # (M,) sees only true boxes that better predictions have
    # (M,) of those without ``truth_of``: a true box of another class that no prediction has
    other_class: Rows
    prediction_of: Rows  # (A,) the inverse of ``truth_of``


def see(
    predictions: BoxColumns,  # M boxes of the truth's sample_tokens
    truth: GroundTruth,
    *,
    scored: tuple[Rows, Rows],  # rows of the predictions and of the true boxes that count
) -> Sight:
    """Give each prediction, best score first, the nearest free true box that it sees.

    A true box belongs to one prediction at most.
    """
    true = truth.boxes
    first, second = (np.full(len(predictions), NOTHING) for _ in range(2))
    duplicate = np.zeros(len(predictions), dtype=bool)
    taken = np.zeros(len(true), dtype=bool)
    widths = half_widths(true, truth)
    samples = range(len(true.sample_tokens))
    own = _by_sample(predictions.sample, scored[0], len(samples))
    wanted = _by_sample(true.sample, scored[1], len(samples))
    for sample in samples:
        rows, columns = own[sample], wanted[sample]
        if not len(rows) or not len(columns):
            continue
        rows = rows[np.argsort(-predictions.score[rows], kind="stable")]
        ego = truth.ego_translation[sample, :2]
        places = predictions.translation[rows, :2] - ego, true.translation[columns, :2] - ego
        visible = in_view(*places, widths[columns])
        far = np.linalg.norm(places[0][:, None] - places[1][None], axis=-1)
        same = predictions.label[rows][:, None] == true.label[columns][None]
        for chosen, allowed in ((first, same), (second, ~same)):
            for number, row in enumerate(rows):
                if first[row] != NOTHING:
                    continue
                seen = np.flatnonzero(visible[number] & allowed[number])
                free = seen[~taken[columns[seen]]]
                if chosen is first:
                    duplicate[row] = len(seen) > 0 and not len(free)
                if len(free):
                    best = columns[free[np.argmin(far[number, free])]]
                    chosen[row], taken[best] = best, True
    inverse = np.full(len(true), NOTHING)
    found = np.flatnonzero(first != NOTHING)
    inverse[first[found]] = found
    return Sight(truth_of=first, duplicate=duplicate, other_class=second, prediction_of=inverse)


def in_view(
    own: Floats,  # (M, 2) predictions from the ego
    true: Floats,  # (A, 2)
    half_width: Floats,  # (A,) radians
) -> NDArray[np.bool_]:  # (M, A)
    """Return True where a prediction sees a true box."""
    ranges = [np.maximum(np.linalg.norm(places, axis=-1), 1e-6) for places in (own, true)]
    directions = [np.arctan2(places[:, 1], places[:, 0]) for places in (own, true)]
    apart = wrap(directions[0][:, None] - directions[1][None])
    ratio = ranges[0][:, None] / ranges[1][None]
    near = np.abs(apart) <= WIDTH_SHARE * half_width + np.radians(MARGIN_DEG)
    seen: NDArray[np.bool_] = near & (np.maximum(ratio, 1 / ratio) <= RANGE_FACTOR)
    return seen


def half_widths(boxes: BoxColumns, truth: GroundTruth) -> Floats:  # (A,) radians
    """Return half of the angle between the outermost corners of each box, seen from its ego."""
    width, length = boxes.size[:, 0], boxes.size[:, 1]
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    yaw = yaws(boxes.rotation)[:, None]
    along, across = signs[:, 0] * length[:, None] / 2, signs[:, 1] * width[:, None] / 2
    center = boxes.translation[:, :2] - truth.ego_translation[boxes.sample, :2]
    x = center[:, :1] + along * np.cos(yaw) - across * np.sin(yaw)
    y = center[:, 1:] + along * np.sin(yaw) + across * np.cos(yaw)
    angles = wrap(np.arctan2(y, x) - np.arctan2(center[:, 1:], center[:, :1]))
    half: Floats = (angles.max(-1) - angles.min(-1)) / 2
    return half


def wrap(angle: Floats) -> Floats:
    """Return angles within half a turn of 0."""
    wrapped: Floats = (angle + np.pi) % (2 * np.pi) - np.pi
    return wrapped


def _by_sample(sample: NDArray[np.int32], rows: Rows, count: int) -> list[Rows]:
    """Split rows by their sample."""
    order = rows[np.argsort(sample[rows], kind="stable")]
    ends = np.cumsum(np.bincount(sample[rows], minlength=count))
    return np.split(order, ends[:-1])
