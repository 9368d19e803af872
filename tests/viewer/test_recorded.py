"""Moments of a data set: boxes in the ego frame, the metric's matches, trails and pictures."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.tables.reader import Tables
from bevstack.viewer.moment import NO_MATCH, ErrorKind, Moment
from bevstack.viewer.recorded import RecordedDrives, RecordedSource
from bevstack.vocabulary import DETECTION_CLASSES
from tests.conftest import shared_dir
from tests.viewer.worlds import VERSION, source_of, viewer_world, write_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return viewer_world(tmp_path_factory)


@pytest.fixture(scope="module")
def drives(folder: Path) -> RecordedDrives:
    return RecordedDrives(source_of(folder, "model.json", "other.json"))


def moments(drives: RecordedDrives) -> list[Moment]:
    return [drives.moment(scene, i) for scene in drives.scenes for i in range(drives.count(scene))]


def entries_of(path: Path, moment: Moment) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = json.loads(path.read_text())["results"][moment.sample_token]
    return results


def loop_matches(moment: Moment, model: int, limit_m: float) -> dict[int, int]:
    """Return predicted -> true box by a loop over all pairs, best score first, last of equals."""
    predicted, true = moment.predicted[model], moment.true
    assert true is not None
    order = sorted(range(len(predicted.score)), key=lambda i: (-predicted.score[i], -i))
    found: dict[int, int] = {}
    for i in order:
        if not predicted.boxes.counted[i]:
            continue
        best, nearest = NO_MATCH, math.inf
        for j in range(len(true)):
            same = true.label[j] == predicted.boxes.label[i] and true.counted[j]
            if not same or j in found.values():
                continue
            distance = math.dist(true.center_m[j, :2], predicted.boxes.center_m[i, :2])
            if distance < nearest:
                best, nearest = j, distance
        if nearest < limit_m:
            found[i] = best
    return found


def test_scenes_and_moments_are_those_of_the_results(folder: Path, drives: RecordedDrives) -> None:
    assert [drives.count(scene) for scene in drives.scenes] == [4, 4]
    assert drives.model_names == ("model", "other")
    tokens = {moment.sample_token for moment in moments(drives)}
    assert tokens == set(json.loads((folder / "model.json").read_text())["results"])


def test_boxes_are_those_of_the_file_seen_from_the_vehicle(
    folder: Path, drives: RecordedDrives
) -> None:
    moment = drives.moment(drives.scenes[1], 2)
    assert moment.world_from_ego is not None
    entries = entries_of(folder / "model.json", moment)
    boxes = moment.predicted[0].boxes
    assert len(boxes) == len(entries) > 5
    world = boxes.center_m @ moment.world_from_ego[:3, :3].T + moment.world_from_ego[:3, 3]
    turn = math.atan2(moment.world_from_ego[1, 0], moment.world_from_ego[0, 0])
    for i, entry in enumerate(entries):
        assert world[i] == pytest.approx(entry["translation"], abs=1e-6)
        assert boxes.size_m[i, [1, 0, 2]] == pytest.approx(entry["size"])
        w, _, _, z = entry["rotation"]
        difference = boxes.yaw_rad[i] + turn - 2 * math.atan2(z, w)
        assert abs(math.remainder(difference, 2 * math.pi)) < 0.02  # the vehicle tilts a little
        assert moment.predicted[0].score[i] == entry["detection_score"]
        assert DETECTION_CLASSES[boxes.label[i]] == entry["detection_name"]


def test_matches_are_those_of_a_loop_at_every_distance(drives: RecordedDrives) -> None:
    kinds = np.zeros(5, np.int64)
    for moment in moments(drives):
        for model in (0, 1):
            pairs = moment.predicted[model].pairs
            assert pairs is not None and moment.true is not None
            for level, limit_m in enumerate(MetricConfig().distances_m):
                expected = loop_matches(moment, model, limit_m)
                matched = np.flatnonzero(pairs.truth[level] != NO_MATCH).tolist()
                assert {i: int(pairs.truth[level, i]) for i in matched} == expected
                back = {j: i for i, j in expected.items()}
                assert {
                    j: int(i) for j, i in enumerate(pairs.prediction[level]) if i != NO_MATCH
                } == back
                for i, j in expected.items():
                    distance = math.dist(
                        moment.true.center_m[j, :2], moment.predicted[model].boxes.center_m[i, :2]
                    )
                    assert pairs.errors[level, 0, i] == pytest.approx(distance, abs=0.02)
            codes = [moment.predicted_kinds(model, 2.0), moment.true_kinds(model, 2.0, 0.0)]
            kinds += np.bincount(np.concatenate(codes), minlength=5)
    assert (kinds[1:] > 5).all()  # every kind occurs


def test_a_found_box_becomes_missed_when_its_prediction_is_hidden(drives: RecordedDrives) -> None:
    found = 0
    for moment in moments(drives):
        pairs, true = moment.predicted[0].pairs, moment.true
        assert pairs is not None and true is not None
        for min_score in (0.0, 0.5, 1.1):
            kinds = moment.true_kinds(0, 1.0, min_score)
            for j in range(len(true)):
                i = int(pairs.prediction[pairs.at(1.0), j])
                seen = i != NO_MATCH and moment.predicted[0].score[i] >= min_score
                expected = ErrorKind.FOUND if seen else ErrorKind.MISSED
                assert kinds[j] == (expected if true.counted[j] else ErrorKind.UNCOUNTED)
                found += seen
    assert found > 20


def test_errors_of_each_moment_are_counted(drives: RecordedDrives) -> None:
    for min_score in (0.0, 0.6):
        counts = drives.num_errors(1, 2.0, min_score)
        for scene in drives.scenes:
            for index in range(drives.count(scene)):
                moment = drives.moment(scene, index)
                shown = moment.predicted[1].score >= min_score
                kinds = moment.predicted_kinds(1, 2.0)[shown]
                missed = moment.true_kinds(1, 2.0, min_score) == ErrorKind.MISSED
                false = (kinds == ErrorKind.FALSE_POSITIVE).sum()
                assert counts[scene][index] == false + missed.sum()


def test_an_unknown_distance_is_refused(drives: RecordedDrives) -> None:
    with pytest.raises(ValueError, match=r"must be one of 0.5, 1, 2, 4 m; got 3"):
        drives.moment(drives.scenes[0], 0).predicted_kinds(0, 3.0)


def test_tracks_have_identities_and_trails_that_end_at_their_boxes(folder: Path) -> None:
    drives = RecordedDrives(source_of(folder, "tracks.json"))
    moment = drives.moment(drives.scenes[0], 3)
    boxes = moment.predicted[0].boxes
    trails = [trail for trail in moment.trails if trail.source == "tracks"]
    assert trails
    for trail in trails:
        (row,) = np.flatnonzero(boxes.identity == trail.identity)
        assert trail.points_m[-1] == pytest.approx(boxes.center_m[row], abs=1e-6)
        assert trail.times_s[-1] == 0 and (np.diff(trail.times_s) > 0).all()
    earlier = drives.moment(drives.scenes[0], 2)
    assert earlier.world_from_ego is not None and moment.world_from_ego is not None
    relative = np.linalg.inv(moment.world_from_ego) @ earlier.world_from_ego
    row = int(np.flatnonzero(earlier.predicted[0].boxes.identity == trails[0].identity)[0])
    moved = relative[:3, :3] @ earlier.predicted[0].boxes.center_m[row] + relative[:3, 3]
    assert trails[0].points_m[-2] == pytest.approx(moved, abs=1e-6)
    assert {trail.source for trail in moment.trails} == {"tracks", ""}


def test_a_camera_keeps_the_bytes_of_its_file_and_projects_true_boxes(
    folder: Path, drives: RecordedDrives
) -> None:
    tables = Tables(folder / "world", VERSION)
    moment = drives.moment(drives.scenes[0], 1)
    assert len(moment.cameras) == 6 and moment.true is not None
    files = {path.read_bytes() for path in (folder / "world" / "samples").rglob("*.jpg")}
    for camera in moment.cameras:
        assert camera.encoded in files and camera.size_px == (160, 90)
        center = moment.true.center_m[0]
        pixel, depth = camera.project(center)
        in_camera = np.linalg.inv(camera.ego_from_cam) @ np.append(center, 1)
        assert depth == pytest.approx(in_camera[2])
        if depth > 0:
            homogeneous = camera.intrinsics @ in_camera[:3]
            assert pixel == pytest.approx(homogeneous[:2] / homogeneous[2])
        else:
            assert np.isnan(pixel).all()
    row = tables.sample_row(moment.sample_token)
    assert moment.timestamp_us == tables.samples.timestamp_us[row]


def test_lidar_points_lie_on_the_true_boxes(drives: RecordedDrives) -> None:
    moment = drives.moment(drives.scenes[0], 0)
    assert moment.lidar_m is not None and moment.true is not None
    boxes, hits = moment.true, 0
    for i in np.flatnonzero(boxes.distance_m < 25):
        cos, sin = math.cos(boxes.yaw_rad[i]), math.sin(boxes.yaw_rad[i])
        offset = moment.lidar_m - boxes.center_m[i]
        local = np.stack(
            (offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin), -1
        )
        hits += bool((np.abs(local) < boxes.size_m[i, :2] / 2 + 0.1).all(1).any())
    assert hits >= 0.8 * (boxes.distance_m < 25).sum() > 0


def test_a_missing_picture_is_named_and_the_rest_is_shown(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "world", tmp_path / "world")
    removed = sorted((tmp_path / "world" / "samples" / "CAM_FRONT").iterdir())[0]
    removed.unlink()
    drives = RecordedDrives(RecordedSource(root=tmp_path / "world", version=VERSION))
    missing = [c for m in moments(drives) for c in m.cameras if c.encoded is None]
    assert [(c.name, c.missing) for c in missing] == [("CAM_FRONT", removed.name)]


def test_truth_alone_and_results_without_boxes_are_shown(folder: Path, tmp_path: Path) -> None:
    truth = RecordedDrives(source_of(folder))
    moment = truth.moment(truth.scenes[0], 0)
    assert truth.distances_m == () and moment.predicted == () and moment.true is not None
    assert len(moment.true) > 5
    tokens = json.loads((folder / "model.json").read_text())["results"]
    write_results(tmp_path / "empty.json", {token: [] for token in tokens})
    empty = RecordedDrives(
        RecordedSource(root=folder / "world", version=VERSION, results=(tmp_path / "empty.json",))
    )
    moment = empty.moment(empty.scenes[0], 0)
    assert len(moment.predicted[0].boxes) == 0
    assert (moment.true_kinds(0, 2.0, 0.2) != ErrorKind.FOUND).all()


def test_results_of_other_samples_are_refused(folder: Path, tmp_path: Path) -> None:
    write_results(tmp_path / "foreign.json", {"1" * 32: []})
    with pytest.raises(ValueError, match=r"foreign.json must hold samples of .*; got none of them"):
        RecordedDrives(
            RecordedSource(
                root=folder / "world", version=VERSION, results=(tmp_path / "foreign.json",)
            )
        )


def test_real_frames_have_boxes_pictures_and_lidar() -> None:
    shared = shared_dir()
    if shared is None:
        pytest.skip("no real data: neither ../shared nor $BEVSTACK_SHARED")
    root = shared / "data/nuscenes_minival"
    drives = RecordedDrives(RecordedSource(root=root, version="v1.0-mini", scenes=("scene-0103",)))
    found = [drives.moment("scene-0103", index) for index in range(drives.count("scene-0103"))]
    with_pictures = [m for m in found if all(c.encoded for c in m.cameras)]
    assert len(with_pictures) == 4
    assert sum(m.lidar_m is not None for m in found) == 1
    assert all(m.true is not None and len(m.true) > 10 for m in with_pictures)
