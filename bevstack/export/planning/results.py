"""Frames of planning out of the files of ``bevstack predict``: boxes or tracks, and cues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bevstack.config.tracking import TrackingConfig
from bevstack.evaluation.results.submission import is_columns, read_submission
from bevstack.evaluation.tracking.offline import (
    rows_by_sample,
    track_samples,
    world_detections,
    world_from_ego,
)
from bevstack.evaluation.tracking.track_file import read_tracks
from bevstack.evaluation.traffic.traffic_frames import TrafficFrame, read_traffic_frames
from bevstack.export.planning.scene import Floats, Ints, PlanningFrame, PlanningObjects
from bevstack.export.planning.sectors import sector_trusts
from bevstack.export.planning.track_paths import TurnRates, paths_of_tracks
from bevstack.file_bytes import read_bytes
from bevstack.tables.reader import Tables
from bevstack.types import Detections
from bevstack.uncertainty import BoxCalibration
from bevstack.uncertainty.sectors import SectorModel
from bevstack.vocabulary import DETECTION_CLASSES


class _Boxes(NamedTuple):
    """The boxes of a file in the world frame, and the rows of each sample."""

    detections: Detections  # float64
    identity: Ints | None  # of tracks
    rows: Mapping[str, Ints]


def read_planning_frames(
    results: Path,
    tables: Tables,
    *,
    scenes: Sequence[str] | None = None,
    cues: Path | None = None,
    tracking: TrackingConfig | None = None,
    calibration: BoxCalibration | None = None,
    sectors: SectorModel | None = None,
) -> list[PlanningFrame]:
    """Return the frames of a results file, scene by scene in order of time.

    A file with identities gives tracks without covariances, one without gives detections.
    Tracks get paths; their turn rates follow from their headings of the last 2 s. Identities hold
    within a scene.

    Args:
        results: results of detection, or a file of tracks.
        tables: the data set of the results.
        scenes: names of the scenes; None: all that the results touch.
        cues: the file of lights, signs and cues, which must hold every frame.
        tracking: track the detections first, which gives identities and covariances; None: do not.
        calibration: gives detections, and tracks with ``tracking``, their uncertainty; None: no.
        sectors: gives frames the trust in sectors, for results with every camera; None: no.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is malformed, lacks a sample, or has identities already although
            ``tracking`` or ``calibration`` is given; or a scene is unknown, or the calibration is
            of other settings of tracking.
    """
    boxes = _read_boxes(results)
    if calibration is not None:
        _check_calibration(results, boxes, calibration, tracking)
    if tracking is not None and boxes.identity is not None:
        raise ValueError(
            f"results to track must have no identities; got tracks in {results}: leave out --track"
        )
    found_cues = None if cues is None else _read_cues(cues)
    frames = []
    for name, samples in _samples_of_scenes(tables, boxes.rows, scenes, results):
        if tracking is not None:
            objects = _track_scene(tables, samples, boxes, tracking, calibration)
        else:
            objects = _known_objects(tables, samples, boxes, calibration)
        trusts = {} if sectors is None else sector_trusts(tables, name, sectors)
        for sample, frame_objects in zip(samples.tolist(), objects, strict=True):
            frame = _frame(tables, sample, name, frame_objects, found_cues)
            frames.append(replace(frame, sectors=trusts.get(frame.sample_token)))
    return frames


def _frame(
    tables: Tables,
    sample: int,
    scene_name: str,
    objects: PlanningObjects,
    cues: Mapping[str, TrafficFrame] | None,
) -> PlanningFrame:
    token = str(np.asarray(tables.samples.token)[sample])
    if cues is not None and token not in cues:
        raise ValueError(
            f"cues must hold a frame for every sample; got none for {token!r} of {scene_name}: "
            "predict the same scenes"
        )
    return PlanningFrame(
        timestamp_us=int(tables.samples.timestamp_us[sample]),
        world_from_ego=world_from_ego(tables, sample).numpy(),
        objects=objects,
        drive=scene_name,
        sample_token=token,
        paths=None if objects.identity is None else paths_of_tracks(objects),
        cues=() if cues is None else cues[token].cues,
        ego_cues=() if cues is None else cues[token].ego_cues,
    )


def _read_boxes(path: Path) -> _Boxes:
    """Read results of detection or tracks, distinguished by the key of the identities."""
    remedy = "make it with `bevstack predict`"
    tracks = not is_columns(path) and b'"tracking_id"' in read_bytes(
        path, "results file", remedy=remedy, max_bytes=None
    )
    identity = None
    if tracks:
        submission = read_tracks(path)
        columns, identity = submission.boxes, submission.identity
        names = submission.identities
        # Our own numbers stay as they are; other texts are numbered in the order of the file.
        if all(name.isascii() and name.isdigit() and len(name) < 19 for name in names):
            identity = np.array([int(name) for name in names], dtype=np.int64)[identity]
    else:
        columns = read_submission(path).boxes
    return _Boxes(world_detections(columns), identity, rows_by_sample(columns))


def _check_calibration(
    results: Path, boxes: _Boxes, calibration: BoxCalibration, tracking: TrackingConfig | None
) -> None:
    if boxes.identity is not None:
        raise ValueError(
            f"results to calibrate must be detections; got tracks in {results}, whose covariances "
            "the file does not hold: export the detections with --track"
        )
    if tracking not in (None, calibration.tracking):
        raise ValueError(
            f"tracking must be that of the calibration, {calibration.tracking}; got {tracking}"
        )


def _read_cues(path: Path) -> dict[str, TrafficFrame]:
    frames = read_traffic_frames(path).frames
    return {frame.sample_token: frame for frame in frames if frame.sample_token}


def _samples_of_scenes(
    tables: Tables, rows: Mapping[str, Ints], scenes: Sequence[str] | None, path: Path
) -> Iterator[tuple[str, Ints]]:
    """Yield the name and the samples of each scene, which the results must hold completely."""
    tokens = np.asarray(tables.samples.token)
    names = np.asarray(tables.scenes.name)
    if scenes is None:
        touched = sorted({int(tables.samples.scene[tables.sample_row(token)]) for token in rows})
    else:
        touched = tables.scene_rows(scenes).tolist()
    if not touched:
        raise ValueError(f"results must hold at least one sample; got none in {path}")
    for scene in touched:
        samples = tables.samples_of_scene(scene)
        missing = [token for token in tokens[samples].tolist() if token not in rows]
        if missing:
            raise ValueError(
                f"results must hold every sample of {names[scene]}; got none for {len(missing)} of "
                f"{len(samples)} in {path}, the first {missing[0]!r}: predict the whole scene"
            )
        yield str(names[scene]), samples


def _known_objects(
    tables: Tables, samples: Ints, boxes: _Boxes, calibration: BoxCalibration | None
) -> Iterator[PlanningObjects]:
    """Yield the objects of a scene's samples as the file holds them."""
    turns = TurnRates()
    tokens = np.asarray(tables.samples.token)
    for sample in samples.tolist():
        rows = boxes.rows[str(tokens[sample])]
        pose = world_from_ego(tables, sample)
        picked = boxes.detections[torch.from_numpy(rows)]
        if calibration is not None:
            picked = calibration.calibrated(picked, pose[:2, 3])
        inverse = torch.linalg.inv(pose)
        objects = PlanningObjects.from_detections(picked, ego_from_bev=inverse)
        if boxes.identity is not None:
            identity = boxes.identity[rows]
            turns.add(int(tables.samples.timestamp_us[sample]), identity, picked.boxes.yaw.numpy())
            rate, deviation = turns.estimate(identity)
            objects = _with_identity(objects, identity, rate, deviation)
        yield objects


def _with_identity(
    objects: PlanningObjects, identity: Ints, rate: Floats, deviation: Floats
) -> PlanningObjects:
    return PlanningObjects(
        class_names=objects.class_names,
        scores=objects.scores,
        center=objects.center,
        size=objects.size,
        yaw=objects.yaw,
        velocity=objects.velocity,
        identity=identity,
        turn_rate=rate,
        turn_rate_std=deviation,
    )


def _track_scene(
    tables: Tables,
    samples: Ints,
    boxes: _Boxes,
    tracking: TrackingConfig,
    calibration: BoxCalibration | None,
) -> Iterator[PlanningObjects]:
    """Yield the tracks of a scene after each of its samples."""
    turns = TurnRates()
    states = track_samples(boxes.detections, boxes.rows, tables, samples, tracking)
    for sample, state in zip(samples.tolist(), states, strict=True):
        time_us, pose = state.timestamp_us, world_from_ego(tables, sample)
        tracks = state.tracks
        seen = (tracks.last_seen_us == time_us).numpy()
        turns.add(time_us, tracks.identity.numpy()[seen], tracks.yaw.numpy()[seen])
        rate, deviation = turns.estimate(tracks.identity.numpy())
        if calibration is not None:
            known = calibration.track_uncertainty(
                replace(tracks.detections(), class_names=DETECTION_CLASSES),
                tracks.covariance,
                seen=tracks.last_seen_us == time_us,
                ego_position=pose[:2, 3],
            )
            tracks = replace(tracks, uncertainty=known)
        yield PlanningObjects.from_tracks(tracks, pose, turn_rate=rate, turn_rate_std=deviation)
