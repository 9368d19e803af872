"""OpenLane-V2's score of lanes, traffic elements and their topology, release 2.1.0 (centre lines).

Huijie Wang and co-authors, OpenLane-V2, arXiv 2304.10440, section 4.3 and the supplement. The
separate F-score of lanes is not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.average_precision import (
    NO_MATCH,
    average_precision,
    box_distance,
    find_nearest,
    match_nearest,
    pairs_within_groups,
)
from bevstack.evaluation.traffic.lane_distances import relaxed_frechet
from bevstack.evaluation.traffic.openlane_frames import (
    OpenLaneFrame,
    OpenLaneFrames,
    expect_same_frames,
)
from bevstack.evaluation.traffic.topology import (
    mean_precision,
    predicted_edges,
    topology_precisions,
)
from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LANE_THRESHOLDS_M = (1.0, 2.0, 3.0)
BOX_THRESHOLD = 0.75  # of 1 - IoU: a box matches if its IoU is greater than 0.25
NUM_ATTRIBUTES = len(TRAFFIC_ELEMENT_ATTRIBUTES)


@dataclass(frozen=True, kw_only=True)
class OpenLaneScores:
    """OpenLane-V2's scores, each from 0 to 1, and the counts that they rest on."""

    det_l: float  # mean average precision of lanes over the three thresholds
    det_t: float  # mean average precision of elements over all 13 attributes
    top_ll: float  # mean average precision of edges between lanes
    top_lt: float  # mean average precision of edges from lanes to elements
    attribute_precision: tuple[float, ...]  # 13, in the order of TRAFFIC_ELEMENT_ATTRIBUTES
    num_truth: tuple[int, ...]  # 13, true elements of each attribute
    num_predictions: tuple[int, ...]  # 13
    num_lanes: int  # true ones
    num_frames: int

    @property
    def ols(self) -> float:
        """Return the OpenLane-V2 score: the mean, with square roots of the topology scores."""
        parts = (self.det_l, self.det_t, self.top_ll**0.5, self.top_lt**0.5)
        return float(np.mean(parts))

    @property
    def macro_precision(self) -> float:
        """Return the mean average precision over attributes with true elements; NaN if none has.

        DET_t counts an attribute that neither side has as 1.
        """
        pairs = zip(self.attribute_precision, self.num_truth, strict=True)
        present = [precision for precision, count in pairs if count]
        return float(np.mean(present)) if present else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return the scores with the official names, and the precision of each attribute."""
        names = zip(TRAFFIC_ELEMENT_ATTRIBUTES, self.attribute_precision, strict=True)
        return {
            "scores": {
                "DET_l": self.det_l,
                "DET_t": self.det_t,
                "TOP_ll": self.top_ll,
                "TOP_lt": self.top_lt,
                "score": self.ols,
            },
            "AP_t": dict(names),
        }


def score_openlane(truth: OpenLaneFrames, predictions: OpenLaneFrames) -> OpenLaneScores:
    """Compute OpenLane-V2's scores of predicted frames.

    Raises:
        ValueError: the two sides hold different frames, or no frame.
    """
    expect_same_frames(truth, predictions)
    sides = (list(truth.values()), [predictions[name] for name in truth])
    precisions, counts, predicted_counts = attribute_precisions(*sides)
    lanes = _LaneMatcher(*sides)
    element_matches = _match_elements(*sides)
    edges_ll: list[Floats] = []
    edges_lt: list[Floats] = []
    lane_precisions = []
    for threshold in LANE_THRESHOLDS_M:
        precision, lane_matches = lanes.match(threshold)
        lane_precisions.append(precision)
        for true, guess, to_lanes, to_elements in zip(
            *sides, lane_matches, element_matches, strict=True
        ):
            if len(true.lanes_m):
                edges = predicted_edges(true.topology_ll, guess.topology_ll, to_lanes, to_lanes)
                edges_ll.append(topology_precisions(true.topology_ll, edges))
            if true.topology_lt.size:
                edges = predicted_edges(true.topology_lt, guess.topology_lt, to_lanes, to_elements)
                edges_lt.append(topology_precisions(true.topology_lt, edges))
    return OpenLaneScores(
        det_l=float(np.mean(lane_precisions)),
        det_t=float(np.mean(precisions)),
        top_ll=mean_precision(edges_ll),
        top_lt=mean_precision(edges_lt),
        attribute_precision=tuple(precisions),
        num_truth=counts,
        num_predictions=predicted_counts,
        num_lanes=sum(len(frame.lanes_m) for frame in sides[0]),
        num_frames=len(truth),
    )


def attribute_precisions(
    truth: Sequence[OpenLaneFrame], predictions: Sequence[OpenLaneFrame]
) -> tuple[list[float], tuple[int, ...], tuple[int, ...]]:
    """Return the 13 average precisions and the numbers of true and predicted elements."""
    labels = [np.concatenate([f.attribute for f in side]) for side in (truth, predictions)]
    frames = [_frame_rows([len(f.boxes_px) for f in side]) for side in (truth, predictions)]
    groups = [f * NUM_ATTRIBUTES + a for f, a in zip(frames, labels, strict=True)]
    scores = np.concatenate([f.confidence for f in predictions])
    matches = _match_boxes(truth, predictions, groups[0], groups[1])
    counts = [np.bincount(label, minlength=NUM_ATTRIBUTES) for label in labels]
    precisions = [
        average_precision(matches[labels[1] == a], scores[labels[1] == a], int(counts[0][a]))
        for a in range(NUM_ATTRIBUTES)
    ]
    return precisions, tuple(counts[0].tolist()), tuple(counts[1].tolist())


def _match_elements(
    truth: Sequence[OpenLaneFrame], predictions: Sequence[OpenLaneFrame]
) -> list[Ints]:
    """Match the elements of each frame whatever their attributes; indices within the frame."""
    counts = ([len(f.boxes_px) for f in truth], [len(f.boxes_px) for f in predictions])
    matches = _match_boxes(truth, predictions, _frame_rows(counts[0]), _frame_rows(counts[1]))
    return _split(matches, *counts)


def _match_boxes(
    truth: Sequence[OpenLaneFrame],
    predictions: Sequence[OpenLaneFrame],
    truth_group: Ints,
    prediction_group: Ints,
) -> Ints:
    boxes = [np.concatenate([f.boxes_px for f in side]) for side in (truth, predictions)]
    scores = np.concatenate([f.confidence for f in predictions])
    pairs = pairs_within_groups(truth_group, prediction_group)
    distance = box_distance(boxes[0][pairs.truth], boxes[1][pairs.prediction])
    return match_nearest(find_nearest(pairs, distance, len(scores)), scores, BOX_THRESHOLD)


class _LaneMatcher:
    """The lanes of all frames with their distances, which all thresholds share."""

    def __init__(
        self, truth: Sequence[OpenLaneFrame], predictions: Sequence[OpenLaneFrame]
    ) -> None:
        self._counts = [[len(f.lanes_m) for f in side] for side in (truth, predictions)]
        lanes = [[lane for f in side for lane in f.lanes_m] for side in (truth, predictions)]
        self._scores = np.concatenate([f.lane_confidence for f in predictions])
        pairs = pairs_within_groups(*(_frame_rows(count) for count in self._counts))
        distance = relaxed_frechet(lanes[0], lanes[1], pairs, LANE_THRESHOLDS_M[-1])
        self._nearest = find_nearest(pairs, distance, len(self._scores))
        self._num_truth = len(lanes[0])

    def match(self, threshold_m: float) -> tuple[float, list[Ints]]:
        """Return the average precision, and the matches of each frame as indices within it."""
        matches = match_nearest(self._nearest, self._scores, threshold_m)
        precision = average_precision(matches, self._scores, self._num_truth)
        return precision, _split(matches, *self._counts)


def _frame_rows(counts: Sequence[int]) -> Ints:
    """Return the frame's number of each of its rows."""
    return np.repeat(np.arange(len(counts)), np.array(counts, np.int64))


def _split(matches: Ints, truth_counts: Sequence[int], counts: Sequence[int]) -> list[Ints]:
    """Split matches by frame, with indices of the true elements within the frame."""
    first = np.repeat(np.cumsum(truth_counts) - truth_counts, counts)
    local = np.where(matches == NO_MATCH, NO_MATCH, matches - first)
    return np.split(local, np.cumsum(counts)[:-1])
