"""Tracks of the boxes in a results file of detection: no model and no images are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.tracking import TrackingConfig
from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.evaluation.tracking.track_entries import track_entries
from bevstack.geometry import rotation_from_quaternion, se3_from_parts, yaw_from_rotation
from bevstack.tables.reader import Tables
from bevstack.tracking import TrackedScene, update_tracks
from bevstack.types import Boxes3D, Detections
from bevstack.vocabulary import DETECTION_CLASSES

Ints = NDArray[np.int64]


def track_results(
    boxes: BoxColumns,
    tables: Tables,
    samples: Ints,  # (S,) rows of the sample table: all samples of some scenes
    config: TrackingConfig,
    *,
    coasted: bool = False,
) -> dict[str, list[dict[str, object]]]:  # sample token -> boxes, as in a file of tracks
    """Track the boxes of a results file, scene by scene, as ``bevstack predict --track`` does.

    Args:
        boxes: detections in the world frame.
        tables: the data set of the results.
        samples: the samples to track.
        config: settings of the tracker.
        coasted: see ``track_entries``.

    Raises:
        ValueError: a sample is not in the results.
    """
    detections, rows = world_detections(boxes), rows_by_sample(boxes)
    tokens = np.asarray(tables.samples.token)
    missing = [token for token in tokens[samples].tolist() if token not in rows]
    if missing:
        raise ValueError(
            f"results must hold every sample to track; got none for {len(missing)} of "
            f"{len(samples)}, the first {missing[0]!r}: predict the whole split"
        )
    results = {}
    for scene in np.unique(tables.samples.scene[samples]).tolist():
        own = tables.samples_of_scene(scene)
        for sample, state in zip(
            own.tolist(), track_samples(detections, rows, tables, own, config), strict=True
        ):
            token = str(tokens[sample])
            results[token] = track_entries(
                state.tracks, token, state.timestamp_us, DETECTION_CLASSES, coasted=coasted
            )
    return results


def track_samples(
    detections: Detections,  # float64, in the world frame
    rows: Mapping[str, Ints],  # of each sample
    tables: Tables,
    samples: Ints,  # (S,) of one scene, in order of time
    config: TrackingConfig,
) -> Iterator[TrackedScene]:
    """Yield the tracks of a scene after each of its samples."""
    state: TrackedScene | None = None
    tokens = np.asarray(tables.samples.token)
    for sample in samples.tolist():
        own = detections[torch.from_numpy(rows[str(tokens[sample])])]
        state = update_tracks(
            state,
            own[own.scores.argsort(descending=True, stable=True)],
            ego_position=world_from_ego(tables, sample)[:2, 3],
            timestamp_us=int(tables.samples.timestamp_us[sample]),
            config=config,
        )
        yield state


def rows_by_sample(boxes: BoxColumns) -> dict[str, Ints]:
    """Return the rows of each sample's boxes, in file order."""
    order = np.argsort(boxes.sample, kind="stable")
    ends = np.cumsum(np.bincount(boxes.sample, minlength=len(boxes.sample_tokens)))
    parts = np.split(order, ends[:-1]) if len(ends) else []
    return dict(zip(boxes.sample_tokens.tolist(), parts, strict=True))


def world_detections(boxes: BoxColumns) -> Detections:
    """Return boxes of a results file as float64 detections in the world frame, in file order."""
    rotation = rotation_from_quaternion(torch.from_numpy(boxes.rotation))
    solids = Boxes3D(
        center=torch.from_numpy(boxes.translation),
        size=torch.from_numpy(boxes.size[:, [1, 0, 2]]),
        yaw=yaw_from_rotation(rotation),
        velocity=torch.from_numpy(boxes.velocity),
    )
    scores = torch.from_numpy(np.clip(boxes.score, 0, 1))
    labels = torch.from_numpy(boxes.label.astype(np.int64))
    return Detections(solids, scores, labels, DETECTION_CLASSES)


def world_from_ego(tables: Tables, sample: int) -> Tensor:  # (4, 4) float64
    """Return the pose of the ego vehicle at a sample."""
    row = int(tables.reference_keyframes(np.array([sample]))[0])
    keyframes = tables.keyframes
    return se3_from_parts(
        torch.from_numpy(np.array(keyframes.rotation[row])),
        torch.from_numpy(np.array(keyframes.translation[row])),
    )
