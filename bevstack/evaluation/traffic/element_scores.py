"""Scores of lights and signs that OpenLane-V2's mean hides: by size, distance, colour, convention.

All boxes are matched once, as in OpenLane-V2: by attribute for average precision, by category for
the confusion of colours. Each figure then counts some true elements; a prediction that matches one
of them is right, one that matches another element is left out, and one that matches none is wrong
if its own box belongs to the figure's range. True elements that are too small or too occluded are
neutral: they are not counted, and no prediction that overlaps one is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.average_precision import (
    NO_MATCH,
    box_distance,
    find_nearest,
    interpolated_precision,
    match_nearest,
    pairs_within_groups,
)
from bevstack.evaluation.traffic.element_columns import NO_COLOR, ElementColumns
from bevstack.evaluation.traffic.openlane_score import BOX_THRESHOLD, NUM_ATTRIBUTES
from bevstack.vocabulary import LIGHT_COLORS, TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

HEIGHT_EDGES_PX = (0.0, 4.0, 6.0, 8.0, 10.0, 16.0, 24.0, np.inf)
DISTANCE_EDGES_M = (0.0, 10.0, 20.0, 30.0, 50.0, 80.0, np.inf)
MIN_VISIBILITY = 0.3
LIGHT_HEIGHT_PX, SIGN_HEIGHT_PX = 6.0, 10.0  # from which lights and signs can be read
NUMBER_HEIGHT_PX = 16.0  # from which the number of a speed limit can be read
_SAME_NUMBER_MPS = 0.14  # half of 1 km/h
LIGHT_ATTRIBUTES = tuple(map(TRAFFIC_ELEMENT_ATTRIBUTES.index, ("red", "green", "yellow")))
SIGN_ATTRIBUTES = tuple(range(4, NUM_ATTRIBUTES))  # the nine meanings
ALL_ATTRIBUTES = tuple(range(NUM_ATTRIBUTES))


@dataclass(frozen=True, kw_only=True)
class Range:
    """Heights in pixels or distances in metres, from the low end up to below the high end."""

    quantity: str  # "height_px" or "distance_m"
    low: float
    high: float = np.inf

    @property
    def name(self) -> str:
        """Return "4-6" or ">=24"."""
        return f">={self.low:g}" if np.isinf(self.high) else f"{self.low:g}-{self.high:g}"

    def holds(self, elements: ElementColumns) -> Bools:
        """Return the elements in the range; none whose value is unknown."""
        values = getattr(elements, self.quantity)
        inside: Bools = (values >= self.low) & (values < self.high)
        return inside


HEIGHTS = tuple(
    Range(quantity="height_px", low=low, high=high) for low, high in pairwise(HEIGHT_EDGES_PX)
)
DISTANCES = tuple(
    Range(quantity="distance_m", low=low, high=high) for low, high in pairwise(DISTANCE_EDGES_M)
)


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The average precision of one attribute in one range, and the counts it rests on."""

    attribute: int
    value: float  # NaN without true elements
    num_truth: int
    num_predictions: int  # right and wrong ones


class ReadNumbers(NamedTuple):
    """The numbers of matched signs for speed limits."""

    right: int
    total: int

    @property
    def accuracy(self) -> float:
        """Return the share that was read; NaN without any."""
        return self.right / self.total if self.total else float("nan")


class MatchedElements:
    """True and predicted elements of the same images, matched once.

    Args:
        truth: the true elements.
        predictions: the predicted ones.
        min_visibility: true elements below it are neutral.
    """

    def __init__(
        self,
        truth: ElementColumns,
        predictions: ElementColumns,
        *,
        min_visibility: float = MIN_VISIBILITY,
    ) -> None:
        self.truth, self.predictions = truth, predictions
        self.visible: Bools = truth.visibility >= min_visibility
        self._pairs = pairs_within_groups(truth.image, predictions.image)
        self._distance = box_distance(
            truth.boxes_px[self._pairs.truth], predictions.boxes_px[self._pairs.prediction]
        )
        self.by_attribute = self._match(truth.attribute, predictions.attribute)
        self.by_category = self._match(truth.category, predictions.category)
        self._order = np.argsort(-predictions.scores, kind="stable")

    def precision(
        self,
        attribute: int,
        bounds: Range | None = None,
        *,
        is_minimum: bool = False,
        weights: Ints | None = None,  # (I,) of each image
    ) -> Precision:
        """Return the average precision of an attribute.

        Args:
            attribute: index into TRAFFIC_ELEMENT_ATTRIBUTES.
            bounds: the range of true elements and of wrong predictions; None: all.
            is_minimum: elements outside the range are neutral, as those that cannot be read;
                otherwise a wrong prediction on one of them is wrong in its own range.
            weights: number of times that each image counts; None: once.
        """
        truth, predictions = self.truth, self.predictions
        inside = np.ones(len(truth), np.bool_) if bounds is None else bounds.holds(truth)
        counted = self.visible & inside
        neutral = ~counted if is_minimum else ~self.visible
        own = np.ones(len(predictions), np.bool_) if bounds is None else bounds.holds(predictions)
        matches = self.by_attribute
        is_matched = matches != NO_MATCH
        right = np.zeros(len(predictions), np.bool_)
        right[is_matched] = counted[matches[is_matched]]
        kept = right | (~is_matched & own & ~self._overlaps(neutral))
        kept &= predictions.attribute == attribute
        rows = self._order[kept[self._order]]
        wanted = counted & (truth.attribute == attribute)
        if weights is None:
            num_truth, row_weights = int(wanted.sum()), None
        else:
            num_truth = int(weights[truth.image[wanted]].sum())
            row_weights = weights[predictions.image[rows]]
        value = interpolated_precision(right[rows], num_truth, row_weights)
        return Precision(
            attribute=attribute,
            value=value if num_truth else float("nan"),
            num_truth=num_truth,
            num_predictions=len(rows) if row_weights is None else int(row_weights.sum()),
        )

    def color_confusion(
        self, min_height_px: float = LIGHT_HEIGHT_PX, weights: Ints | None = None
    ) -> Ints:  # (len(LIGHT_COLORS), len(LIGHT_COLORS))
        """Count matched lights by true colour (rows) and predicted colour (columns).

        A light is matched whatever its colour. Lights of unknown colour, below the height or hardly
        visible are not counted.
        """
        truth, predictions = self.truth, self.predictions
        rows = np.flatnonzero(self.by_category != NO_MATCH)
        true_rows = self.by_category[rows]
        kept = (
            (truth.category[true_rows] == TRAFFIC_LIGHT)
            & (truth.color[true_rows] != NO_COLOR)
            & (truth.height_px[true_rows] >= min_height_px)
            & self.visible[true_rows]
        )
        rows, true_rows = rows[kept], true_rows[kept]
        cells = truth.color[true_rows] * len(LIGHT_COLORS) + predictions.color[rows]
        weight = None if weights is None else weights[truth.image[true_rows]]
        counts = np.bincount(cells, weight, minlength=len(LIGHT_COLORS) ** 2)
        return counts.astype(np.int64).reshape(len(LIGHT_COLORS), len(LIGHT_COLORS))

    def read_numbers(self, min_height_px: float = NUMBER_HEIGHT_PX) -> ReadNumbers:
        """Count the numbers of matched signs for speed limits; one that was not read is wrong.

        A sign is matched whatever its meaning. Signs below the height or hardly visible are not
        counted.
        """
        truth, predictions = self.truth, self.predictions
        rows = np.flatnonzero(self.by_category != NO_MATCH)
        true_rows = self.by_category[rows]
        kept = np.isfinite(truth.speed_limit_mps) & (truth.height_px >= min_height_px)
        kept &= self.visible
        rows, true_rows = rows[kept[true_rows]], true_rows[kept[true_rows]]
        error = predictions.speed_limit_mps[rows] - truth.speed_limit_mps[true_rows]
        return ReadNumbers(int((np.abs(error) < _SAME_NUMBER_MPS).sum()), len(rows))

    def _match(self, truth_label: Ints, prediction_label: Ints) -> Ints:
        same = truth_label[self._pairs.truth] == prediction_label[self._pairs.prediction]
        pairs = type(self._pairs)(self._pairs.truth[same], self._pairs.prediction[same])
        nearest = find_nearest(pairs, self._distance[same], len(self.predictions))
        return match_nearest(nearest, self.predictions.scores, BOX_THRESHOLD)

    def _overlaps(self, neutral: Bools) -> Bools:  # (P,)
        """Return the predictions that overlap a neutral true element enough to match it."""
        near = self._pairs.prediction[(self._distance < BOX_THRESHOLD) & neutral[self._pairs.truth]]
        overlaps = np.zeros(len(self.predictions), np.bool_)
        overlaps[near] = True
        return overlaps


def macro(precisions: list[Precision]) -> float:
    """Return the mean over attributes with true elements; NaN if none has any."""
    values = [p.value for p in precisions if p.num_truth]
    return float(np.mean(values)) if values else float("nan")


def color_accuracy(confusion: Ints) -> float:
    """Return the share of matched lights with the right colour; NaN without any."""
    total = int(confusion.sum())
    return float(np.trace(confusion)) / total if total else float("nan")


@dataclass(frozen=True, kw_only=True)
class ElementScores:
    """All scores of elements in images."""

    attributes: tuple[Precision, ...]  # 13, all sizes
    lights: tuple[Precision, ...]  # red, green, yellow from 6 px
    signs: tuple[Precision, ...]  # the nine meanings from 10 px
    by_height: tuple[tuple[Range, tuple[Precision, ...]], ...]
    by_distance: tuple[tuple[Range, tuple[Precision, ...]], ...]
    confusion: Ints  # of colours, from 6 px
    by_convention: tuple[tuple[str, tuple[Precision, ...]], ...]  # "housing", "lamp"
    numbers: ReadNumbers  # of speed limits, from 16 px

    @property
    def det_t(self) -> float:
        """Return the mean over all 13 attributes; one that neither side has counts as 1."""
        values = [p.value if p.num_truth else float(not p.num_predictions) for p in self.attributes]
        return float(np.mean(values))


def score_elements(matched: MatchedElements) -> ElementScores:
    """Compute all scores of matched elements."""
    lights = Range(quantity="height_px", low=LIGHT_HEIGHT_PX)
    signs = Range(quantity="height_px", low=SIGN_HEIGHT_PX)
    return ElementScores(
        attributes=tuple(map(matched.precision, ALL_ATTRIBUTES)),
        lights=tuple(matched.precision(a, lights, is_minimum=True) for a in LIGHT_ATTRIBUTES),
        signs=tuple(matched.precision(a, signs, is_minimum=True) for a in SIGN_ATTRIBUTES),
        by_height=tuple(_ranges(matched, HEIGHTS)),
        by_distance=tuple(_ranges(matched, DISTANCES)),
        confusion=matched.color_confusion(),
        by_convention=tuple(_conventions(matched)),
        numbers=matched.read_numbers(),
    )


def _ranges(
    matched: MatchedElements, ranges: tuple[Range, ...]
) -> Iterator[tuple[Range, tuple[Precision, ...]]]:
    for bounds in ranges:
        yield bounds, tuple(matched.precision(a, bounds) for a in ALL_ATTRIBUTES)


def _conventions(matched: MatchedElements) -> Iterator[tuple[str, tuple[Precision, ...]]]:
    """Yield the scores of the boxes around housings alone, and of those around lamps alone."""
    for name, is_lamp in (("housing", False), ("lamp", True)):
        truth = matched.truth.select(matched.truth.lamp_box == is_lamp)
        predictions = matched.predictions.select(matched.predictions.lamp_box == is_lamp)
        if len(truth):
            part = MatchedElements(truth, predictions)
            yield name, tuple(map(part.precision, ALL_ATTRIBUTES))
