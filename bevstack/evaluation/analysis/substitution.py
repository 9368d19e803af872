"""Limits of a score: the score with true values put in place of a detector's, one by one.

Values are put in for boxes that see a true box (``sight``), so a row is the most that an
improvement of that value alone could bring. No model is needed, only a results file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.analysis.sight import NOTHING, Floats, Rows, Sight, see, wrap
from bevstack.evaluation.detection3d.box_errors import yaws
from bevstack.evaluation.detection3d.columns import NO_ATTRIBUTE, BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import evaluate, scored_boxes
from bevstack.evaluation.detection3d.metric_config import MetricConfig

NOTHING_PUT_IN = "nothing"
SEED = 0  # of the range errors of added boxes


class Substitution(NamedTuple):
    """Score of one row, and its gain over the unchanged boxes."""

    name: str
    nds: float
    mean_average_precision: float
    nds_gain: float
    mean_average_precision_gain: float


@dataclass(frozen=True, kw_only=True)
class _Case:
    """The boxes of one file and what they see; the fields of ``boxes`` are never written."""

    boxes: BoxColumns
    truth: GroundTruth
    sight: Sight
    scored: Rows  # rows of the true boxes that count
    max_boxes: int

    @property
    def matched(self) -> Rows:
        return np.flatnonzero(self.sight.truth_of != NOTHING)

    def true(self, field: str) -> NDArray[np.generic]:
        """Return a field of the true boxes that the matched predictions see."""
        values: NDArray[np.generic] = getattr(self.truth.boxes, field)[
            self.sight.truth_of[self.matched]
        ]
        return values

    def put(self, changes: Mapping[str, NDArray[np.generic]]) -> BoxColumns:
        """Return the boxes with the fields of the matched ones changed."""
        columns = {}
        for name, values in changes.items():
            column = getattr(self.boxes, name).copy()
            column[self.matched] = values
            columns[name] = column
        return replace(self.boxes, **columns)


def substitute(
    predictions: BoxColumns, truth: GroundTruth, config: MetricConfig | None = None
) -> tuple[Substitution, ...]:
    """Score the boxes with each kind of value replaced by the true one.

    Args:
        predictions: boxes of the scored samples.
        truth: true boxes.
        config: settings of the metric; None: ``detection_cvpr_2019``.
    """
    config = config or MetricConfig()
    case = look(predictions, truth, config)
    rows: list[Substitution] = []
    for name, change in CHANGES.items():
        metrics = evaluate(change(case), truth, config)
        figures = metrics.nds, metrics.mean_average_precision
        first = rows[0][1:3] if rows else figures
        rows.append(Substitution(name, *figures, figures[0] - first[0], figures[1] - first[1]))
    return tuple(rows)


def look(predictions: BoxColumns, truth: GroundTruth, config: MetricConfig) -> _Case:
    """Return the case of a results file: its boxes in the truth's samples, and what they see."""
    boxes = predictions.select_samples(truth.boxes.sample_tokens)
    own, wanted = scored_boxes(boxes, truth, config)
    return _Case(
        boxes=boxes,
        truth=truth,
        sight=see(boxes, truth, scored=(own.rows, wanted.rows)),
        scored=wanted.rows,
        max_boxes=config.max_boxes,
    )


def _places(case: _Case) -> tuple[Floats, Floats, Floats]:
    """Return places from the ego: of the matched predictions, of what they see, and the egos."""
    rows = case.matched
    ego = case.truth.ego_translation[case.boxes.sample[rows], :2]
    true = case.truth.boxes.translation[case.sight.truth_of[rows], :2]
    return case.boxes.translation[rows, :2] - ego, true - ego, ego


def _moved(case: _Case, place: Floats, ego: Floats) -> BoxColumns:
    translation = case.boxes.translation[case.matched].copy()
    translation[:, :2] = place + ego
    return case.put({"translation": translation})


def _with_range(case: _Case, share: float) -> BoxColumns:
    """Move boxes along their own direction by a share of the way to the true range."""
    own, true, ego = _places(case)
    length = np.linalg.norm(own, axis=1)
    wanted = length + share * (np.linalg.norm(true, axis=1) - length)
    return _moved(case, own * (wanted / np.maximum(length, 1e-6))[:, None], ego)


def _with_direction(case: _Case) -> BoxColumns:
    own, true, ego = _places(case)
    lengths = [np.maximum(np.linalg.norm(p, axis=1), 1e-6) for p in (own, true)]
    return _moved(case, true * (lengths[0] / lengths[1])[:, None], ego)


def _with_velocity(case: _Case, share: float = 1.0) -> BoxColumns:
    """Move velocities to the true ones; at the whole share, attributes become true as well."""
    own = case.boxes.velocity[case.matched]
    true = np.asarray(case.true("velocity"), dtype=np.float64)
    known = ~np.isnan(true).any(1)
    start = np.where(np.isnan(own), 0.0, own)
    velocity = np.where(known[:, None], start + share * (true - start), own)
    if share < 1:
        return case.put({"velocity": velocity})
    attribute = np.asarray(case.true("attribute"))
    kept = case.boxes.attribute[case.matched]
    attribute = np.where(attribute == NO_ATTRIBUTE, kept, attribute)
    return case.put({"velocity": velocity, "attribute": attribute})


def _with_yaw(case: _Case, share: float = 1.0) -> BoxColumns:
    own = yaws(case.boxes.rotation[case.matched])
    turn = wrap(yaws(np.asarray(case.true("rotation"), dtype=np.float64)) - own)
    half = (own + share * turn) / 2
    zeros = np.zeros_like(half)
    rotation = np.stack((np.cos(half), zeros, zeros, np.sin(half)), -1)
    return case.put({"rotation": rotation})


def _with_class(case: _Case) -> BoxColumns:
    """Give boxes that see only a free box of another class the class of that box."""
    rows = np.flatnonzero(case.sight.other_class != NOTHING)
    label, attribute = case.boxes.label.copy(), case.boxes.attribute.copy()
    label[rows] = case.truth.boxes.label[case.sight.other_class[rows]]
    attribute[rows] = case.truth.boxes.attribute[case.sight.other_class[rows]]
    return replace(case.boxes, label=label, attribute=attribute)


def _ranked(case: _Case, rank: Callable[[Floats], Floats] | None = None) -> BoxColumns:
    """Put boxes that see something first, in their own order or by the error of their place."""
    score = case.boxes.score / 2
    own, true, _ = _places(case)
    errors = np.linalg.norm(own - true, axis=1)
    score[case.matched] = 0.5 + (score[case.matched] if rank is None else rank(errors) / 2)
    return replace(case.boxes, score=score)


def _closeness(errors: Floats) -> Floats:
    closeness: Floats = 1 / (1 + errors)
    return closeness


def _missed(case: _Case, share: float = 1.0) -> Rows:
    rows = case.scored[case.sight.prediction_of[case.scored] == NOTHING]
    chosen: Rows = rows[:: round(1 / share)]
    return chosen


def _with_missed(
    boxes: BoxColumns, case: _Case, *, share: float = 1.0, own_errors: bool = False
) -> BoxColumns:
    """Add objects that no box sees, each with the score of a random box that sees something.

    With ``own_errors``, their range errs by the relative error of such a box as well. Of samples
    that are full, boxes with the lowest scores make room.
    """
    rows = _missed(case, share)
    true = case.truth.boxes
    added = {field.name: getattr(true, field.name)[rows] for field in fields(true)[1:]}
    scores = boxes.score[case.matched] if len(case.matched) else np.ones(1)
    added["score"] = np.random.default_rng(SEED).choice(scores, len(rows))
    added["velocity"] = np.nan_to_num(added["velocity"])
    if own_errors and len(case.matched):
        own, seen, _ = _places(case)
        relative = np.linalg.norm(own, axis=1) / np.maximum(np.linalg.norm(seen, axis=1), 1e-6)
        factor = np.random.default_rng(SEED).choice(relative, len(rows))
        ego = case.truth.ego_translation[true.sample[rows], :2]
        place = added["translation"].copy()
        place[:, :2] = ego + (place[:, :2] - ego) * factor[:, None]
        added["translation"] = place
    columns = {
        name: np.concatenate((values, getattr(boxes, name))) for name, values in added.items()
    }
    whole = BoxColumns(sample_tokens=boxes.sample_tokens, **columns)
    return whole[_fullest(whole, case.max_boxes)]


def _fullest(boxes: BoxColumns, most: int) -> Rows:
    """Return the rows of the ``most`` best boxes of each sample, in their order."""
    order = np.lexsort((-boxes.score, boxes.sample))
    sample = boxes.sample[order]
    starts = np.searchsorted(sample, sample)
    kept: Rows = np.sort(order[np.arange(len(order)) - starts < most])
    return kept


def _halved(case: _Case) -> BoxColumns:
    """Halve the errors of range, yaw and velocity."""
    moved, turned, fast = _with_range(case, 0.5), _with_yaw(case, 0.5), _with_velocity(case, 0.5)
    return replace(moved, rotation=turned.rotation, velocity=fast.velocity)


CHANGES: Mapping[str, Callable[[_Case], BoxColumns]] = {
    NOTHING_PUT_IN: lambda case: case.boxes,
    "true centre": lambda case: case.put({"translation": case.true("translation")}),
    "true range, own direction": lambda case: _with_range(case, 1.0),
    "range errors halved": lambda case: _with_range(case, 0.5),
    "true direction, own range": _with_direction,
    "true velocity and attribute": _with_velocity,
    "true yaw": _with_yaw,
    "true size": lambda case: case.put({"size": case.true("size")}),
    "true class": _with_class,
    "without duplicates": lambda case: case.boxes[~case.sight.duplicate],
    "boxes that see something first": _ranked,
    "ranked by the error of their place": lambda case: _ranked(case, _closeness),
    "missed objects added": lambda case: _with_missed(case.boxes, case),
    "missed objects added, with own range errors": lambda case: _with_missed(
        case.boxes, case, own_errors=True
    ),
    "range, yaw and velocity errors halved": _halved,
    "... and half of the missed objects added": lambda case: _with_missed(
        _halved(case), case, share=0.5
    ),
}
