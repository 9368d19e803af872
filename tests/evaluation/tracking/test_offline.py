"""Tracks of a results file, against a loop over its JSON and over the tables' JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.config.tracking import TrackingConfig
from bevstack.evaluation.results.submission import read_submission
from bevstack.evaluation.tracking.offline import track_results
from bevstack.evaluation.tracking.track_file import parse_tracks
from bevstack.tables.reader import Tables
from bevstack.tracking import update_tracks
from bevstack.types import Boxes3D, Detections
from bevstack.vocabulary import DETECTION_CLASSES
from tests.export.result_files import OTHER_SCENE, SCENE, sample_tokens, write_results
from tests.tables.tiny_root import VERSION, token, write_tiny_root

CONFIG = TrackingConfig(reach_m=20.0)  # the boxes' velocities do not fit their motion


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables(write_tiny_root(tmp_path_factory.mktemp("root")), VERSION, cache=False)


def detections_of(entries: list[dict]) -> Detections:
    boxes = Boxes3D(
        center=torch.tensor([one["translation"] for one in entries], dtype=torch.float64),
        size=torch.tensor([one["size"] for one in entries], dtype=torch.float64)[:, [1, 0, 2]],
        yaw=torch.tensor(
            [2 * math.atan2(one["rotation"][3], one["rotation"][0]) for one in entries]
        ),
        velocity=torch.tensor([one["velocity"] for one in entries], dtype=torch.float64),
    )
    labels = [DETECTION_CLASSES.index(one["detection_name"]) for one in entries]
    scores = torch.tensor([one["detection_score"] for one in entries], dtype=torch.float64)
    return Detections(boxes, scores, torch.tensor(labels))


def ego_position(tables: Tables, sample: str) -> torch.Tensor:
    poses = {r["token"]: r for r in json.loads((tables.folder / "ego_pose.json").read_text())}
    data = json.loads((tables.folder / "sample_data.json").read_text())
    lidar = token("calibrated_sensor", SCENE, "LIDAR_TOP")
    reading = next(
        r
        for r in data
        if r["sample_token"] == sample
        and r["is_key_frame"]
        and ("LIDAR_TOP" in r["filename"] or r["calibrated_sensor_token"] == lidar)
    )
    place = poses[reading["ego_pose_token"]]["translation"][:2]
    return torch.tensor(place, dtype=torch.float64)


def test_tracks_are_those_of_a_loop_over_the_samples(tmp_path: Path, tables: Tables) -> None:
    path = write_results(tmp_path / "r.json", tracks=False)
    results = json.loads(path.read_text())["results"]
    results[sample_tokens()[2]] = results[sample_tokens()[2]][1:]  # the car has no box
    path.write_text(json.dumps({"meta": {}, "results": results}))
    samples = np.array([tables.sample_row(name) for name in sample_tokens()])
    boxes = read_submission(path).boxes
    found = track_results(boxes, tables, samples, CONFIG)
    coasted = track_results(boxes, tables, samples, CONFIG, coasted=True)
    parse_tracks(coasted)  # the format permits them
    state = None
    for name in sample_tokens():
        state = update_tracks(
            state,
            detections_of(results[name]),
            ego_position=ego_position(tables, name),
            timestamp_us=int(tables.samples.timestamp_us[tables.sample_row(name)]),
            config=CONFIG,
        )
        tracks = state.tracks
        is_cone = tracks.labels == DETECTION_CLASSES.index("traffic_cone")
        for entries, rows in (
            (coasted[name], ~is_cone),
            (found[name], ~is_cone & (tracks.last_seen_us == state.timestamp_us)),
        ):
            assert [one["tracking_id"] for one in entries] == [
                str(number) for number in tracks.identity[rows].tolist()
            ]
            places = [one["translation"][:2] for one in entries]
            np.testing.assert_allclose(places, tracks.state[rows, :2], rtol=0, atol=1e-9)
            scores = [one["tracking_score"] for one in entries]
            np.testing.assert_allclose(scores, tracks.scores[rows], rtol=0, atol=1e-9)
    assert [len(found[name]) for name in sample_tokens()] == [2, 2, 1, 2]
    assert [len(coasted[name]) for name in sample_tokens()] == [2, 2, 2, 2]


def test_results_without_a_sample_are_refused(tmp_path: Path, tables: Tables) -> None:
    boxes = read_submission(write_results(tmp_path / "r.json", tracks=False)).boxes
    names = [*sample_tokens(), *sample_tokens(OTHER_SCENE)]
    samples = np.array([tables.sample_row(name) for name in names])
    with pytest.raises(ValueError, match="every sample to track; got none for 3 of 7"):
        track_results(boxes, tables, samples, CONFIG)
