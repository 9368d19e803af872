"""True objects and their frames, and predicted tracks, as the metric counts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.filtering import ego_distances, filter_boxes
from bevstack.evaluation.detection3d.metric_config import NUSCENES_RANGE_M, MetricConfig
from bevstack.evaluation.detection3d.truth import ground_truth, rows_of_samples
from bevstack.evaluation.tracking.track_columns import Frames, TrackColumns
from bevstack.evaluation.tracking.track_file import TrackSubmission, identities_by_scene
from bevstack.evaluation.tracking.tracking_config import TRACKING_CLASSES, TrackingMetricConfig
from bevstack.tables.reader import Tables
from bevstack.vocabulary import DETECTION_CLASSES


@dataclass(frozen=True, kw_only=True)
class TrackingTruth:
    """True boxes of the scored samples; samples are in the order of the frames."""

    frames: Frames
    ground: GroundTruth  # all classes, not filtered
    instance: NDArray[np.int32]  # (M,) the object of each true box, row of instance.json


def tracking_truth(
    tables: Tables,
    samples: NDArray[np.int64],  # (S,) rows of the sample table
    *,
    strict: bool = False,
) -> TrackingTruth:
    """Read the true boxes of whole scenes, scene by scene in order of time.

    Raises:
        ValueError: see ``detection3d.truth.ground_truth``.
    """
    table = tables.samples
    order = np.lexsort((table.timestamp_us[samples], table.scene[samples]))
    samples = samples[order]
    ground = ground_truth(tables, samples, strict=strict)
    rows, _ = rows_of_samples(tables, samples)
    categories = tables.annotations.category[rows].tolist()
    is_box = np.array([name in tables.class_by_category for name in categories], dtype=np.bool_)
    return TrackingTruth(
        frames=Frames(scene=table.scene[samples], timestamp_us=table.timestamp_us[samples]),
        ground=ground,
        instance=tables.annotations.instance[rows[is_box]],
    )


def true_tracks(truth: TrackingTruth, config: TrackingMetricConfig) -> TrackColumns:
    """Return the true boxes that the metric counts, without the added ones."""
    boxes = truth.ground.boxes
    return _columns(boxes, truth.instance.astype(np.int64), truth, config)


def predicted_tracks(
    submission: TrackSubmission, truth: TrackingTruth, config: TrackingMetricConfig
) -> TrackColumns:
    """Return the predicted boxes that the metric counts, with their own scores.

    Predictions of samples that the truth does not have are left out.
    """
    boxes, identity = submission.boxes, submission.identity
    tokens = truth.ground.boxes.sample_tokens
    if not np.array_equal(boxes.sample_tokens, tokens):
        known = np.isin(boxes.sample_tokens, tokens)[boxes.sample]
        boxes, identity = boxes.select_samples(tokens), identity[known]
    order = np.argsort(boxes.sample, kind="stable")
    boxes, identity = boxes[order], identity[order]
    track = identities_by_scene(truth.frames.scene[boxes.sample], identity, submission.identities)
    return _columns(boxes, track, truth, config)


def _columns(
    boxes: BoxColumns,  # sorted by sample
    track: NDArray[np.int64],
    truth: TrackingTruth,
    config: TrackingMetricConfig,
) -> TrackColumns:
    """Filter boxes by class, range, points and racks, as the detection metric does."""
    ranges = dict.fromkeys(NUSCENES_RANGE_M, 0.0) | dict(config.class_range_m)
    distance_m = ego_distances(boxes, truth.ground.ego_translation)
    rows = filter_boxes(
        boxes, distance_m, truth.ground.racks, MetricConfig(class_range_m=ranges)
    ).rows
    return TrackColumns(
        frame=boxes.sample[rows].astype(np.int64),
        track=track[rows],
        label=boxes.label[rows],
        center=np.ascontiguousarray(boxes.translation[rows, :2]),
        score=boxes.score[rows],
    )


def label_of(name: str) -> int:
    """Return the label of one of ``TRACKING_CLASSES``."""
    assert name in TRACKING_CLASSES
    return DETECTION_CLASSES.index(name)
