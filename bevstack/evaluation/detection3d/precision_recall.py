"""Precision, confidence and errors over recall, for one class at every matching distance.

nuScenes, arXiv 1903.11027, section 3.1, with the arithmetic of nuscenes-devkit 1.2, to the last
bit: each sum and interpolation is the same numpy call on the same values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.box_errors import (
    angle_differences,
    cumulative_means,
    norms,
    scale_ious,
    yaws,
)
from bevstack.evaluation.detection3d.columns import NO_ATTRIBUTE, BoxColumns
from bevstack.evaluation.detection3d.matching import Centers, Matches, match, near_pairs
from bevstack.evaluation.detection3d.ordering import best_first
from bevstack.vocabulary import DETECTION_CLASSES

NUM_RECALLS = 101
# Names of the errors in the devkit's files, in the order of the summary.
ERROR_NAMES = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Curves of one class at one matching distance, at ``NUM_RECALLS`` recalls from 0 to 1."""

    recall: Floats  # (R,)
    precision: Floats  # (R,) 0 beyond the highest recall that is reached
    confidence: Floats  # (R,) lowest score that reaches the recall; 0 if no score reaches it
    # (5, R) mean errors, as in ERROR_NAMES, of the matches with at least this confidence. Stored in
    # memory from the last recall to the first, which determines the order of numpy's sums.
    errors: Floats

    @property
    def max_recall_index(self) -> int:
        """Return the index of the highest recall that is reached; 0 if none is."""
        reached = np.nonzero(self.confidence)[0]
        return int(reached[-1]) if len(reached) else 0

    def average_precision(self, min_recall: float, min_precision: float) -> float:
        """Return the mean precision above both limits, scaled to 0..1.

        Raises:
            ValueError: ``min_recall`` is outside 0..1, or ``min_precision`` is outside 0..1 or
                equals 1.
        """
        if not (0 <= min_precision < 1 and 0 <= min_recall <= 1):
            raise ValueError(
                "min_recall must be in 0..1 and min_precision in 0..1 and below 1; got "
                f"{min_recall} and {min_precision}"
            )
        precision = np.copy(self.precision)[round(100 * min_recall) + 1 :]
        precision -= min_precision
        precision[precision < 0] = 0
        return float(np.mean(precision)) / (1.0 - min_precision)

    def mean_errors(self, min_recall: float) -> tuple[float, ...]:
        """Return the five errors averaged over recalls above ``min_recall``.

        They are 1 if no such recall is reached.
        """
        first, last = round(100 * min_recall) + 1, self.max_recall_index
        if last < first:
            return (1.0,) * len(ERROR_NAMES)
        return tuple(float(np.mean(error[first : last + 1])) for error in self.errors)


class Selection(NamedTuple):
    """Some of the boxes: all boxes, and the rows of the selected ones."""

    boxes: BoxColumns
    rows: NDArray[np.int64]

    def by_label(self) -> list[Selection]:
        """Split the selection by class, one selection for each of ``DETECTION_CLASSES``."""
        label = self.boxes.label[self.rows]
        order = np.argsort(label, kind="stable")
        ends = np.cumsum(np.bincount(label, minlength=len(DETECTION_CLASSES)))
        parts = np.split(self.rows[order], ends[:-1])
        return [Selection(self.boxes, part) for part in parts]


@dataclass(frozen=True, kw_only=True)
class ClassMatches:
    """Matches of the predictions of one class, best first, at each distance."""

    prediction: NDArray[np.int64]  # (M,) rows of the predictions
    truth: NDArray[np.int64]  # (N,) rows of the true boxes, by sample
    score: Floats  # (M,)
    matches: Matches  # indices into ``prediction``, at each distance
    matched_truth: NDArray[np.int64]  # (U,) index into ``truth`` for each pair of the matches
    errors: Floats  # (5, U) errors of these pairs, as in ERROR_NAMES


@dataclass(frozen=True, kw_only=True)
class TruePositives:
    """Scores and true positives of one class at one distance: the input of a curve."""

    prediction: NDArray[np.int64]  # (K,) ranks of the matched predictions, best first
    score: Floats  # (M,) of all predictions, best first
    errors: Floats  # (5, K) of the matches
    num_truth: int


def class_curves(matches: ClassMatches | None, num_distances: int) -> tuple[Curve, ...]:
    """Compute the curves of one class at each distance; None: the class has no true boxes."""
    if matches is None:
        return (no_predictions(),) * num_distances
    return tuple(curve_at(matches, distance) for distance in range(num_distances))


def match_class(
    predictions: Selection,
    truth: Selection,  # of the same sample_tokens
    distances_m: tuple[float, ...],
    *,
    half_turn: bool = False,
) -> ClassMatches:
    """Sort the predictions of one class, match them, and compute the errors of the matches.

    Of equal scores the later box comes first. A box is matched within the sample that it names.

    Args:
        predictions: rows of one class, ascending.
        truth: rows of the same class, ascending.
        distances_m: upper limits of the matching distance, each matched independently.
        half_turn: headings are defined up to half a turn.

    Raises:
        ValueError: a matched box without volume; names its sample.
    """
    predicted_boxes, rows = predictions
    true_boxes, true_rows = truth
    rows = rows[best_first(predicted_boxes.score[rows])]
    true_rows = true_rows[np.argsort(true_boxes.named_sample[true_rows], kind="stable")]
    pairs = near_pairs(
        Centers(
            predicted_boxes.named_sample[rows], np.take(predicted_boxes.translation, rows, axis=0)
        ),
        Centers(
            true_boxes.named_sample[true_rows], np.take(true_boxes.translation, true_rows, axis=0)
        ),
        len(true_boxes.sample_tokens),
        max(distances_m),
    )
    matches = match(pairs, len(true_rows), distances_m)
    matched_pairs = matches.pairs
    errors = pair_errors(
        Selection(predicted_boxes, rows[pairs.prediction[matched_pairs]]),
        Selection(true_boxes, true_rows[pairs.truth[matched_pairs]]),
        pairs.distance[matched_pairs],
        period=np.pi if half_turn else 2 * np.pi,
    )
    return ClassMatches(
        prediction=rows,
        truth=true_rows,
        score=predicted_boxes.score[rows],
        matches=matches,
        matched_truth=pairs.truth[matched_pairs],
        errors=errors,
    )


def curve_at(matches: ClassMatches, distance: int) -> Curve:
    """Compute the curve at one of the distances, given by its index."""
    true_positives = TruePositives(
        prediction=matches.matches.prediction[distance],
        score=matches.score,
        errors=matches.errors[:, matches.matches.pair[distance]],
        num_truth=len(matches.truth),
    )
    return compute_curve(true_positives)


def group_curve(
    matches: ClassMatches,
    distance: int,
    truth_inside: NDArray[np.bool_],  # (N,) of matches.truth
    prediction_inside: NDArray[np.bool_],  # (M,) of matches.prediction
) -> Curve:
    """Compute the curve of a group of true boxes from the matches of all boxes.

    A matched prediction belongs to the group of its true box, an unmatched one to its own group.
    """
    ranks, pairs = matches.matches.prediction[distance], matches.matches.pair[distance]
    in_group = truth_inside[matches.matched_truth[pairs]]
    kept = prediction_inside.copy()
    kept[ranks] = in_group
    true_positives = TruePositives(
        prediction=(np.cumsum(kept) - 1)[ranks[in_group]],
        score=matches.score[kept],
        errors=matches.errors[:, pairs[in_group]],
        num_truth=int(np.count_nonzero(truth_inside)),
    )
    return compute_curve(true_positives)


def compute_curve(true_positives: TruePositives) -> Curve:
    """Compute precision, confidence and errors over recall."""
    if not len(true_positives.prediction):
        return no_predictions()
    recalls = np.linspace(0, 1, NUM_RECALLS)
    corners, matches = _corners(true_positives.prediction, len(true_positives.score))
    recall_at_corners = matches.astype(np.float64) / float(true_positives.num_truth)
    precision = np.interp(recalls, recall_at_corners, matches / (corners + 1.0), right=0)
    confidence = np.interp(recalls, recall_at_corners, true_positives.score[corners], right=0)
    ascending_confidence = confidence[::-1]  # np.interp needs ascending x
    score = true_positives.score[true_positives.prediction][::-1]
    errors = np.empty((len(ERROR_NAMES), NUM_RECALLS))
    for error, values in zip(errors, true_positives.errors, strict=True):
        error[:] = np.interp(ascending_confidence, score, cumulative_means(values)[::-1])
    return Curve(recall=recalls, precision=precision, confidence=confidence, errors=errors[:, ::-1])


def no_predictions() -> Curve:
    """Return the curve of a class without true boxes or without matches."""
    return Curve(
        recall=np.linspace(0, 1, NUM_RECALLS),
        precision=np.zeros(NUM_RECALLS),
        confidence=np.zeros(NUM_RECALLS),
        errors=np.ones((len(ERROR_NAMES), NUM_RECALLS)),
    )


def _corners(
    hits: NDArray[np.int64],  # (K,) ranks of the matched predictions, ascending
    count: int,  # of all predictions
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # (C,) ranks, (C,) number of matches so far
    """Return the predictions between which ``np.interp`` interpolates recall.

    Recall rises at each match and is constant until the next one. ``np.interp`` uses only the first
    and the last prediction of such a run. If there are predictions before the first match, their
    run, of recall 0, comes first.
    """
    ends = np.append(hits[1:], count) - 1
    corners = np.stack((hits, ends), -1).ravel()
    matches = np.repeat(np.arange(1, len(hits) + 1), 2)
    if hits[0] == 0:
        return corners, matches
    return np.concatenate(((0, hits[0] - 1), corners)), np.concatenate(((0, 0), matches))


def pair_errors(
    predictions: Selection,
    truth: Selection,  # box for box
    distance: Floats,  # (M,) metres
    period: float,  # of headings, radians
) -> Floats:  # (5, M)
    """Compute the errors of each prediction against its true box, in the order of ERROR_NAMES.

    Unknown errors are NaN: of velocity if either velocity is unknown, of the attribute if the true
    box has none.

    Raises:
        ValueError: a box without volume; names its sample.
    """
    (predicted_boxes, rows), (true_boxes, true_rows) = predictions, truth
    sizes = [np.take(boxes.size, selected, axis=0) for boxes, selected in (predictions, truth)]
    for (boxes, selected), size in zip((predictions, truth), sizes, strict=True):
        if not (size > 0).all():
            flat = int(np.argmin((size > 0).all(-1)))
            sample = str(boxes.sample_tokens[boxes.sample[selected[flat]]])
            raise ValueError(
                f"sizes of matched boxes must be positive; got {size[flat].tolist()} in sample "
                f"{sample!r}"
            )
    true_yaw, yaw = yaws(true_boxes.rotation[true_rows]), yaws(predicted_boxes.rotation[rows])
    angle = angle_differences(true_yaw, yaw, period)
    attribute = true_boxes.attribute[true_rows]
    wrong = np.where(attribute == predicted_boxes.attribute[rows], 0.0, 1.0)
    return np.stack(
        (
            distance,
            1 - scale_ious(*sizes),
            np.abs(angle),
            norms(predicted_boxes.velocity[rows] - true_boxes.velocity[true_rows]),
            np.where(attribute == NO_ATTRIBUTE, np.nan, wrong),
        )
    )
