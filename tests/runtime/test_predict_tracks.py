"""Tracks of a data set: the same after a kill, with unique identities, read by the metric."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bevstack.config.tracking import TrackingConfig
from bevstack.evaluation.tracking.track_file import read_tracks
from bevstack.evaluation.tracking.tracking_scoring import load_tracks, score_tracks
from bevstack.runtime.detector import build
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.predict_tracks import TrackOptions, recorded
from bevstack.runtime.scene_stream import StreamStep
from bevstack.runtime.stream_protocol import StreamState
from bevstack.runtime.tracked import TrackedDetector
from bevstack.tables.reader import Tables
from bevstack.tracking import Tracks, update_tracks
from bevstack.types import Boxes3D, Detections, Frame, Reset
from tests.small_world import CONFIG, SPEC, dataset, small_world


class Killed(Exception):
    """Interruption of a run between two scenes."""


def test_tracks_are_written_beside_the_boxes_also_after_a_kill(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = small_world(tmp_path_factory)
    detector, data = TrackedDetector(build(CONFIG)), dataset(root, "synth_val")
    paths = [tmp_path / name for name in ("whole.json", "again.json")]
    predict_dataset(detector, data, tmp_path / "a.json", tracks=TrackOptions(paths[0]))

    def kill(done: int, total: int) -> None:
        raise Killed

    options = TrackOptions(paths[1])
    with pytest.raises(Killed):
        predict_dataset(detector, data, tmp_path / "b.json", tracks=options, progress=kill)
    with pytest.raises(ValueError, match="must hold scenes of the same model"):
        predict_dataset(detector, data, tmp_path / "b.json")
    predict_dataset(detector, data, tmp_path / "b.json", tracks=options)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    submission = read_tracks(paths[0])
    assert len(submission.boxes) > 0
    scored = score_tracks(load_tracks(paths[0], Tables(root, SPEC.version), "synth_val"))
    assert scored.metrics.figures()["gt"] > 0


def test_detector_that_does_not_track_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = dataset(small_world(tmp_path_factory), "synth_val")
    with pytest.raises(ValueError, match="detector must track for a file of tracks; got 0 tracks"):
        predict_dataset(
            build(CONFIG), data, tmp_path / "a.json", tracks=TrackOptions(tmp_path / "t.json")
        )


def _tracks(time_us: int) -> Tracks:
    """Return one track that starts at a time, with identity 0."""
    box = Boxes3D(
        center=torch.tensor([[5.0, 0.0, 0.0]], dtype=torch.float64),
        size=torch.ones(1, 3, dtype=torch.float64),
        yaw=torch.zeros(1, dtype=torch.float64),
        velocity=torch.zeros(1, 2, dtype=torch.float64),
    )
    detections = Detections(box, torch.ones(1, dtype=torch.float64), torch.zeros(1).long())
    return update_tracks(
        None,
        detections,
        ego_position=torch.zeros(2),
        timestamp_us=time_us,
        config=TrackingConfig(),
    ).tracks


def test_identities_differ_where_tracking_starts_again_within_a_scene(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    frames = dataset(small_world(tmp_path_factory), "synth_val")
    steps = []
    for number, reset in enumerate((Reset.START, Reset.NONE, Reset.JUMP)):
        frame: Frame = frames.frame(number, load_images=False)
        tracks = _tracks(frame.timestamp_us)
        state = StreamState(reset=reset, tracks=tracks)
        steps.append(StreamStep(frame, tracks.detections(), 0.0, reset, state))
    part = tmp_path / "scene.json"
    assert list(recorded(steps, TrackOptions(tmp_path / "t.json"), ("car",), part)) == steps
    results = read_parts(tmp_path / "tracks" / "scene.json")
    assert [boxes[0]["tracking_id"] for boxes in results.values()] == ["0", "0", "1.0"]


def read_parts(path: Path) -> dict[str, list[dict[str, object]]]:
    content: dict[str, list[dict[str, object]]] = json.loads(path.read_text())
    return content
