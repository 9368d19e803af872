"""Boxes of many samples, each with the true box that it finds: the input of fit and coverage.

Boxes and true boxes are matched as by the metric: class by class, best first, within
``error_distance_m`` (2 m) in the bird's-eye view. Letters: M boxes, N true boxes, K matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.tracking import TrackingConfig
from bevstack.evaluation.detection3d.columns import (
    NO_ATTRIBUTE,
    UNKNOWN_POINTS,
    BoxColumns,
    GroundTruth,
)
from bevstack.evaluation.detection3d.evaluator import match_classes, scored_boxes
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.truth import ground_truth, samples_of_split
from bevstack.evaluation.results.submission import read_submission
from bevstack.evaluation.tracking.offline import (
    rows_by_sample,
    track_samples,
    world_detections,
    world_from_ego,
)
from bevstack.tables.reader import Tables
from bevstack.types import Boxes3D, Detections
from bevstack.uncertainty.model import sight_axes
from bevstack.vocabulary import DETECTION_CLASSES

NO_TRUTH = -1


class MatchedBoxes(NamedTuple):
    """The boxes of one kind of stream that the metric counts, in the world frame."""

    detections: Detections  # M boxes, float64
    ego_position: Tensor  # (M, 2) metres, of each box's sample
    covariance: Tensor | None  # (M, 4, 4) of the tracker; None: detections
    seen: Tensor  # (M,) bool: has a box in its sample
    truth: Tensor  # (M,) row of the true box, or NO_TRUTH
    true_boxes: Boxes3D  # N boxes, float64

    @property
    def is_matched(self) -> Tensor:  # (M,) bool
        """Return the boxes that have a true box."""
        return self.truth >= 0


class Errors(NamedTuple):
    """Errors of the K matched boxes, true minus predicted."""

    position: Tensor  # (K, 2) metres, x and y
    along: Tensor  # (K,) metres, on the line of sight
    across: Tensor  # (K,) metres
    elevation: Tensor  # (K,) metres
    size: Tensor  # (K, 3) share of the predicted size
    axis: Tensor  # (K,) radians from -pi/2 to pi/2, of the heading modulo pi
    flipped: Tensor  # (K,) bool: the heading differs by more than a right angle
    velocity: Tensor  # (K, 2) metres per second, NaN where the true one is unknown


def match_results(
    results: str | Path, tables: Tables, split: str | Sequence[str], tracking: TrackingConfig
) -> tuple[MatchedBoxes, MatchedBoxes, int]:
    """Return the detections of a results file, their tracks, and the number of samples.

    Args:
        results: path; samples outside the split are left out.
        tables: the version's tables.
        split: name, or the names of scenes.
        tracking: settings of the tracker.

    Raises:
        FileNotFoundError: the results do not exist.
        ValueError: the results lack a sample of the split, or the split does not exist.
    """
    samples = samples_of_split(tables, split)
    truth = ground_truth(tables, samples)
    columns = read_submission(results).boxes
    rows = rows_by_sample(columns)
    tokens = np.asarray(tables.samples.token)
    missing = [token for token in tokens[samples].tolist() if token not in rows]
    if missing:
        raise ValueError(
            f"results must hold every sample of {split}; got none for {len(missing)} of "
            f"{len(samples)} in {results}: predict the whole split"
        )
    boxes = world_detections(columns)
    detected, tracked = BoxCollector(truth), BoxCollector(truth)
    number = {token: index for index, token in enumerate(truth.boxes.sample_tokens.tolist())}
    for scene in np.unique(tables.samples.scene[samples]).tolist():
        own = tables.samples_of_scene(scene)
        states = track_samples(boxes, rows, tables, own, tracking)
        for sample, state in zip(own.tolist(), states, strict=True):
            index = number[str(tokens[sample])]
            ego = world_from_ego(tables, sample)[:2, 3]
            picked = boxes[torch.from_numpy(rows[str(tokens[sample])])]
            detected.add(index, ego, picked)
            tracks = state.tracks
            seen = tracks.last_seen_us == state.timestamp_us
            tracked.add(index, ego, tracks.detections(), tracks.covariance, seen)
    return detected.matched(), tracked.matched(), len(samples)


def errors_of(boxes: MatchedBoxes) -> Errors:
    """Return the errors of the matched boxes, in their order."""
    rows = boxes.is_matched
    predicted, true = boxes.detections.boxes[rows], boxes.true_boxes[boxes.truth[rows]]
    position = true.center[:, :2] - predicted.center[:, :2]
    axes = _axes(predicted.center[:, :2], boxes.ego_position[rows])
    in_sight = (axes @ position[:, :, None])[..., 0]
    turn = true.yaw - predicted.yaw
    axis = torch.remainder(turn + torch.pi / 2, torch.pi) - torch.pi / 2
    return Errors(
        position=position,
        along=in_sight[:, 0],
        across=in_sight[:, 1],
        elevation=true.center[:, 2] - predicted.center[:, 2],
        size=true.size / predicted.size - 1,
        axis=axis,
        flipped=turn.cos() < 0,
        velocity=true.velocity - predicted.velocity,
    )


def _axes(centers: Tensor, ego_position: Tensor) -> Tensor:
    return sight_axes(centers - ego_position, torch.zeros(2, dtype=torch.float64))


class BoxCollector:
    """Boxes of one kind, sample by sample."""

    def __init__(self, truth: GroundTruth) -> None:
        self._truth = truth
        self._sample: list[int] = []
        self._ego: list[Tensor] = []
        self._boxes: list[Detections] = []
        self._covariance: list[Tensor] = []
        self._seen: list[Tensor] = []

    def add(
        self,
        sample: int,
        ego: Tensor,
        boxes: Detections,
        covariance: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> None:
        """Add the boxes of a sample, in the world frame."""
        self._sample += [sample] * len(boxes)
        self._ego.append(ego.expand(len(boxes), 2))
        self._boxes.append(boxes)
        if covariance is not None:
            self._covariance.append(covariance)
        self._seen.append(torch.ones(len(boxes), dtype=torch.bool) if seen is None else seen)

    def matched(self) -> MatchedBoxes:
        """Match the boxes; those beyond the range of their class are left out."""
        parts = self._boxes
        boxes = Boxes3D.concatenate([part.boxes for part in parts])
        scores, labels = (torch.cat([getattr(p, n) for p in parts]) for n in ("scores", "labels"))
        columns = _columns(boxes, scores, labels, np.array(self._sample, np.int32), self._truth)
        config = MetricConfig()
        scored, scored_truth = scored_boxes(columns, self._truth, config)
        distance = config.distances_m.index(config.error_distance_m)
        truth = np.full(len(columns), NO_TRUTH, dtype=np.int64)
        for found in match_classes(scored, scored_truth, config).values():
            if found is not None:
                hits = found.matches
                pairs = hits.pair[distance]
                truth[found.prediction[hits.prediction[distance]]] = found.truth[
                    found.matched_truth[pairs]
                ]
        rows = torch.from_numpy(scored.rows)
        detections = Detections(boxes, scores, labels, DETECTION_CLASSES)
        true = world_detections(self._truth.boxes).boxes
        return MatchedBoxes(
            detections=detections[rows],
            ego_position=torch.cat(self._ego)[rows],
            covariance=torch.cat(self._covariance)[rows] if self._covariance else None,
            seen=torch.cat(self._seen)[rows],
            truth=torch.from_numpy(truth)[rows],
            true_boxes=true,
        )


def _columns(
    boxes: Boxes3D, scores: Tensor, labels: Tensor, sample: NDArray[np.int32], truth: GroundTruth
) -> BoxColumns:
    count = len(boxes)
    half = boxes.yaw / 2
    zero = torch.zeros_like(half)
    return BoxColumns(
        sample_tokens=truth.boxes.sample_tokens,
        sample=sample,
        named_sample=sample,
        translation=boxes.center.numpy(),
        size=boxes.size[:, [1, 0, 2]].numpy(),
        rotation=torch.stack((half.cos(), zero, zero, half.sin()), -1).numpy(),
        velocity=boxes.velocity.numpy(),
        label=labels.numpy().astype(np.int8),
        attribute=np.full(count, NO_ATTRIBUTE, dtype=np.int8),
        score=scores.numpy(),
        num_points=np.full(count, UNKNOWN_POINTS, dtype=np.int32),
    )
