"""Truth and results of the viewed samples, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.truth import ground_truth, rows_of_samples
from bevstack.tables.calibration import detection_labels
from bevstack.tables.reader import Tables
from bevstack.viewer.matching import MatchedResults, match_results
from bevstack.viewer.moment import BoxArrays, Flags, Floats, Indices, Predicted
from bevstack.viewer.paths import ObjectPaths
from bevstack.viewer.results import ViewedResults
from bevstack.viewer.world_boxes import boxes_in_ego
from bevstack.vocabulary import DETECTION_CLASSES


@dataclass(frozen=True)
class ViewedTruth:
    """True boxes of the viewed samples that have a lidar or radar point, or unknown points."""

    columns: GroundTruth
    identity: Indices  # (K,) row of the object in its table
    paths: ObjectPaths

    @cached_property
    def _rows(self) -> list[Indices]:
        boxes = self.columns.boxes
        rows = np.flatnonzero(boxes.num_points != 0)
        return _by_sample(boxes.sample[rows], rows, len(boxes.sample_tokens))

    def rows(self, sample: int) -> Indices:
        """Return the rows of the boxes of a sample, given by its number among the viewed."""
        return self._rows[sample]

    def boxes_in_ego(self, sample: int, world_from_ego: Floats, counted: Flags) -> BoxArrays:
        """Return the boxes of a sample in its ego frame."""
        rows = self.rows(sample)
        boxes, identity = self.columns.boxes[rows], self.identity[rows]
        return boxes_in_ego(boxes, world_from_ego, counted[rows], identity)


@dataclass(frozen=True)
class ViewedModel:
    """Results of one model for the viewed samples, matched with the truth if there is one."""

    results: ViewedResults  # of the viewed samples alone
    matches: MatchedResults | None
    paths: ObjectPaths | None  # None: the boxes have no identities

    @property
    def name(self) -> str:
        """Return the name of the results file."""
        return self.results.name

    @cached_property
    def _rows(self) -> list[Indices]:
        boxes = self.results.boxes
        return _by_sample(boxes.sample, np.arange(len(boxes)), len(boxes.sample_tokens))

    def predicted(
        self, sample: int, world_from_ego: Floats, truth: ViewedTruth | None
    ) -> Predicted:
        """Return the boxes of a sample in its ego frame, with their matches."""
        rows, boxes, identity = self._rows[sample], self.results.boxes, self.results.identity
        counted, pairs = np.zeros(len(rows), np.bool_), None
        if self.matches is not None and truth is not None:
            counted = self.matches.predicted_counted[rows]
            pairs = self.matches.pairs(rows, truth.rows(sample))
        return Predicted(
            name=self.name,
            boxes=boxes_in_ego(
                boxes[rows], world_from_ego, counted, None if identity is None else identity[rows]
            ),
            score=boxes.score[rows],
            pairs=pairs,
        )


def view_truth(tables: Tables, samples: Indices) -> ViewedTruth | None:
    """Read the true boxes of samples; None if the data set has none of the detection classes.

    Raises:
        ValueError: an annotation is damaged; names it.
    """
    if not tables.has_annotations:
        return None
    rows, _ = rows_of_samples(tables, samples)
    rows = rows[detection_labels(tables, rows, DETECTION_CLASSES) >= 0]
    if not len(rows):
        return None
    truth = ground_truth(tables, samples)
    assert len(rows) == len(truth.boxes)  # both keep the boxes of the detection classes
    identity = tables.annotations.instance[rows].astype(np.int64)
    return ViewedTruth(truth, identity, _paths("", truth.boxes, identity, tables, samples))


def view_model(
    results: ViewedResults, truth: ViewedTruth | None, tables: Tables, samples: Indices
) -> ViewedModel:
    """Keep the results of the viewed samples and match them with the truth.

    Raises:
        ValueError: a matched box without volume; names its sample.
    """
    tokens = np.asarray(tables.samples.token)[samples]
    kept = np.isin(results.boxes.sample_tokens, tokens)[results.boxes.sample]
    identity = None if results.identity is None else results.identity[kept]
    boxes = results.boxes.select_samples(tokens)
    viewed = replace(results, boxes=boxes, identity=identity)
    matches = None if truth is None else match_results(boxes, truth.columns)
    paths = None
    if identity is not None:
        paths = _paths(results.name, boxes, identity, tables, samples)
    return ViewedModel(viewed, matches, paths)


def _paths(
    source: str, boxes: BoxColumns, identity: Indices, tables: Tables, samples: Indices
) -> ObjectPaths:
    rows = samples[boxes.sample]
    return ObjectPaths(
        source=source,
        scene=tables.samples.scene[rows].astype(np.int64),
        timestamp_us=tables.samples.timestamp_us[rows],
        identity=identity,
        place_m=boxes.translation,
    )


def _by_sample(sample: NDArray[np.int32], rows: Indices, count: int) -> list[Indices]:
    """Split rows by their sample; a row's place within its sample stays."""
    order = np.argsort(sample, kind="stable")
    ends = np.cumsum(np.bincount(sample, minlength=count))
    return np.split(rows[order], ends[:-1])
