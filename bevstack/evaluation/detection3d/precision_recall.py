"""Precision, confidence and errors over recall, for one class at every distance.

nuScenes, arXiv 1903.11027, section 3.1, in the arithmetic of nuscenes-devkit 1.2, to the last bit:
each sum and interpolation is the same numpy call on the same values.
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
from bevstack.evaluation.detection3d.matching import Matches, Places, match, near_pairs
from bevstack.evaluation.detection3d.ordering import best_first
from bevstack.vocabulary import DETECTION_CLASSES

NUM_RECALLS = 101
# The errors in the order of the summary: name in the devkit's files.
ERROR_NAMES = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One class at one distance, at ``NUM_RECALLS`` recalls from 0 to 1."""

    recall: Floats  # (R,)
    precision: Floats  # (R,) 0 beyond the recall that was reached
    confidence: Floats  # (R,) lowest score that reaches the recall; 0 where none does
    # (5, R) mean errors of the matches that are at least as sure, as in ERROR_NAMES. Their memory
    # runs from the last recall to the first, which settles in what order numpy sums them.
    errors: Floats

    @property
    def max_recall_index(self) -> int:
        """The last recall that was reached, 0 where none was."""
        reached = np.nonzero(self.confidence)[0]
        return int(reached[-1]) if len(reached) else 0

    def average_precision(self, min_recall: float, min_precision: float) -> float:
        """Mean precision above both limits, scaled to 0..1.

        Raises:
            ValueError: a recall outside 0..1, or a precision outside 0..1 or of 1.
        """
        if not (0 <= min_precision < 1 and 0 <= min_recall <= 1):
            raise ValueError(
                "min_recall must be in 0..1 and min_precision in 0..1, below 1; got "
                f"{min_recall} and {min_precision}"
            )
        precision = np.copy(self.precision)[round(100 * min_recall) + 1 :]
        precision -= min_precision
        precision[precision < 0] = 0
        return float(np.mean(precision)) / (1.0 - min_precision)

    def mean_errors(self, min_recall: float) -> tuple[float, ...]:
        """The five errors averaged from ``min_recall`` on; 1 where that was not reached."""
        first, last = round(100 * min_recall) + 1, self.max_recall_index
        if last < first:
            return (1.0,) * len(ERROR_NAMES)
        return tuple(float(np.mean(error[first : last + 1])) for error in self.errors)


class Chosen(NamedTuple):
    """Some of many boxes."""

    boxes: BoxColumns
    rows: NDArray[np.int64]

    def by_label(self) -> list[Chosen]:
        """Those of each class."""
        label = self.boxes.label[self.rows]
        order = np.argsort(label, kind="stable")
        ends = np.cumsum(np.bincount(label, minlength=len(DETECTION_CLASSES)))
        parts = np.split(self.rows[order], ends[:-1])
        return [Chosen(self.boxes, part) for part in parts]


@dataclass(frozen=True, kw_only=True)
class ClassMatches:
    """Predictions of one class, best first, and what each was matched with at each distance."""

    prediction: NDArray[np.int64]  # (M,) rows of the predictions
    truth: NDArray[np.int64]  # (N,) rows of the true boxes, by sample
    score: Floats  # (M,)
    matches: Matches  # of places in the first list, at each distance
    matched_truth: NDArray[np.int64]  # (U,) place in the second, of each pair of the matches
    errors: Floats  # (5, U) of these pairs, as in ERROR_NAMES


@dataclass(frozen=True, kw_only=True)
class Hits:
    """What a curve is made of."""

    prediction: NDArray[np.int64]  # (K,) places of the matched predictions, best first
    score: Floats  # (M,) of all predictions, best first
    errors: Floats  # (5, K) of the matches
    num_truth: int


def class_curves(matches: ClassMatches | None, num_distances: int) -> tuple[Curve, ...]:
    """The curves of one class at each distance; None: it has no true box."""
    if matches is None:
        return (no_predictions(),) * num_distances
    return tuple(curve(matches, distance) for distance in range(num_distances))


def match_class(
    predictions: Chosen,
    truth: Chosen,  # of the same sample_tokens
    distances_m: tuple[float, ...],
    *,
    half_turn: bool = False,
) -> ClassMatches:
    """Sorts predictions, all of one class, matches them, and measures the matches.

    Of equal scores the later box comes first. A box is matched within the sample it names.

    Args:
        predictions: rows of one class, ascending.
        truth: rows of the same class, ascending.
        distances_m: a match is nearer than this, each on its own.
        half_turn: headings count up to half a turn.

    Raises:
        ValueError: a matched box without volume, naming its sample.
    """
    found_boxes, rows = predictions
    true_boxes, true_rows = truth
    rows = rows[best_first(found_boxes.score[rows])]
    true_rows = true_rows[np.argsort(true_boxes.named_sample[true_rows], kind="stable")]
    pairs = near_pairs(
        Places(found_boxes.named_sample[rows], np.take(found_boxes.translation, rows, axis=0)),
        Places(
            true_boxes.named_sample[true_rows], np.take(true_boxes.translation, true_rows, axis=0)
        ),
        len(true_boxes.sample_tokens),
        max(distances_m),
    )
    matches = match(pairs, len(true_rows), distances_m)
    matched = matches.pairs
    errors = pair_errors(
        Chosen(found_boxes, rows[pairs.prediction[matched]]),
        Chosen(true_boxes, true_rows[pairs.truth[matched]]),
        pairs.distance[matched],
        period=np.pi if half_turn else 2 * np.pi,
    )
    return ClassMatches(
        prediction=rows,
        truth=true_rows,
        score=found_boxes.score[rows],
        matches=matches,
        matched_truth=pairs.truth[matched],
        errors=errors,
    )


def curve(matches: ClassMatches, distance: int) -> Curve:
    """The curve at one of the distances, by its number."""
    hits = Hits(
        prediction=matches.matches.prediction[distance],
        score=matches.score,
        errors=matches.errors[:, matches.matches.pair[distance]],
        num_truth=len(matches.truth),
    )
    return curve_of_hits(hits)


def group_curve(
    matches: ClassMatches,
    distance: int,
    truth_inside: NDArray[np.bool_],  # (N,) of matches.truth
    prediction_inside: NDArray[np.bool_],  # (M,) of matches.prediction
) -> Curve:
    """The curve of some of the true boxes, by the matches of all.

    A prediction that matched counts where its true box does; one that did not, by its own.
    """
    places, pairs = matches.matches.prediction[distance], matches.matches.pair[distance]
    of_group = truth_inside[matches.matched_truth[pairs]]
    kept = prediction_inside.copy()
    kept[places] = of_group
    hits = Hits(
        prediction=(np.cumsum(kept) - 1)[places[of_group]],
        score=matches.score[kept],
        errors=matches.errors[:, pairs[of_group]],
        num_truth=int(np.count_nonzero(truth_inside)),
    )
    return curve_of_hits(hits)


def curve_of_hits(hits: Hits) -> Curve:
    """Precision, confidence and errors over recall, from what was found."""
    if not len(hits.prediction):
        return no_predictions()
    recall = np.linspace(0, 1, NUM_RECALLS)
    corners, found = _corners(hits.prediction, len(hits.score))
    reached = found.astype(np.float64) / float(hits.num_truth)
    precision = np.interp(recall, reached, found / (corners + 1.0), right=0)
    confidence = np.interp(recall, reached, hits.score[corners], right=0)
    sureness = confidence[::-1]  # np.interp wants ascending abscissae
    score = hits.score[hits.prediction][::-1]
    errors = np.empty((len(ERROR_NAMES), NUM_RECALLS))
    for error, of_hits in zip(errors, hits.errors, strict=True):
        error[:] = np.interp(sureness, score, cumulative_means(of_hits)[::-1])
    return Curve(recall=recall, precision=precision, confidence=confidence, errors=errors[:, ::-1])


def no_predictions() -> Curve:
    """The curve of a class without true boxes, or of which none was found."""
    return Curve(
        recall=np.linspace(0, 1, NUM_RECALLS),
        precision=np.zeros(NUM_RECALLS),
        confidence=np.zeros(NUM_RECALLS),
        errors=np.ones((len(ERROR_NAMES), NUM_RECALLS)),
    )


def _corners(
    hits: NDArray[np.int64],  # (K,) places of the matched predictions, ascending
    count: int,  # of all predictions
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # (C,) places, (C,) matches up to there
    """The predictions between which recall interpolates.

    Recall rises at a hit and stays until the next; ``np.interp`` looks at nothing but the first
    and the last of such a run. The run before the first hit, of recall 0, is there if it is.
    """
    ends = np.append(hits[1:], count) - 1
    corners = np.stack((hits, ends), -1).ravel()
    found = np.repeat(np.arange(1, len(hits) + 1), 2)
    if hits[0] == 0:
        return corners, found
    return np.concatenate(((0, hits[0] - 1), corners)), np.concatenate(((0, 0), found))


def pair_errors(
    predictions: Chosen,
    truth: Chosen,  # box for box
    distance: Floats,  # (M,) metres
    period: float,  # after which a heading repeats itself
) -> Floats:  # (5, M)
    """The errors of each prediction against its true box, in the order of ERROR_NAMES.

    NaN where they are not known: of velocity if either is not, of the attribute if the truth has
    none.

    Raises:
        ValueError: a box without volume, naming its sample.
    """
    (found, rows), (wanted, true_rows) = predictions, truth
    sizes = [np.take(boxes.size, chosen, axis=0) for boxes, chosen in (predictions, truth)]
    for (boxes, chosen), size in zip((predictions, truth), sizes, strict=True):
        if not (size > 0).all():
            flat = int(np.argmin((size > 0).all(-1)))
            sample = str(boxes.sample_tokens[boxes.sample[chosen[flat]]])
            raise ValueError(
                f"sizes of matched boxes must be positive; got {size[flat].tolist()} in sample "
                f"{sample!r}"
            )
    turn = angle_differences(yaws(wanted.rotation[true_rows]), yaws(found.rotation[rows]), period)
    attribute = wanted.attribute[true_rows]
    wrong = np.where(attribute == found.attribute[rows], 0.0, 1.0)
    return np.stack(
        (
            distance,
            1 - scale_ious(*sizes),
            np.abs(turn),
            norms(found.velocity[rows] - wanted.velocity[true_rows]),
            np.where(attribute == NO_ATTRIBUTE, np.nan, wrong),
        )
    )
