from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.baselines.priors import best_bev_prior, bev_prior, random_boxes
from bevstack.evaluation.devkit.devkit import evaluate_with_devkit
from bevstack.evaluation.results.submission import read_submission, write_submission
from bevstack.geometry import invert_se3
from bevstack.tables.calibration import world_from_ego_at
from bevstack.tables.names import DETECTION_RANGE_M
from bevstack.tables.reader import Tables
from bevstack.vocabulary import DETECTION_CLASSES
from tests.tables.tiny_root import VERSION, read_table, token, write_tables


@pytest.fixture
def tables(root: Path) -> Tables:
    return Tables(root, VERSION)


def _ego_boxes(tables: Tables, results: dict, sample: str, tmp_path: Path):
    write_submission(tmp_path / "r.json", results)
    row = tables.sample_row(sample)
    pose = world_from_ego_at(tables, tables.reference_keyframes(np.array([row])))[0]
    return read_submission(tmp_path / "r.json").select_sample(sample).detections(invert_se3(pose))


def test_the_prior_is_where_boxes_were(tables: Tables, tmp_path: Path) -> None:
    # computed from the tables: cells of 2 m around the ego of each training sample
    quaternion = pytest.importorskip("pyquaternion").Quaternion
    poses = {row["token"]: row for row in read_table(tables.root, "ego_pose")}
    cells: dict[tuple, list] = {}
    for row in read_table(tables.root, "sample_annotation"):
        samples = {token("sample", "scene-0103", k): k for k in range(4)}
        name = {token("instance", "scene-0103", "vehicle.car"): "car"}.get(row["instance_token"])
        if token("instance", "scene-0103", "human.pedestrian.adult") == row["instance_token"]:
            name = "pedestrian"
        if row["sample_token"] not in samples or name is None:
            continue
        pose = poses[token("reading", "scene-0103", samples[row["sample_token"]], "LIDAR_TOP")]
        position = np.array(row["translation"]) - pose["translation"]
        position = quaternion(pose["rotation"]).inverse.rotate(position)
        cell = (name, *np.floor(position[:2] / 2.0))
        cells.setdefault(cell, []).append(position)
    results = bev_prior(tables, ["scene-0103"], ["scene-0916"], cell_m=2.0)
    assert list(results) == [token("sample", "scene-0916", k) for k in range(3)]
    for sample in results:
        detections = _ego_boxes(tables, results, sample, tmp_path)
        assert len(detections) == len(cells)
        most = max(map(len, cells.values()))
        for (name, *_), positions in cells.items():
            distance = np.abs(detections.boxes.center.numpy() - np.mean(positions, 0)).max(1)
            row = int(distance.argmin())
            assert distance[row] < 1e-5  # float32 metres within 20 m
            assert DETECTION_CLASSES[detections.labels[row]] == name
            assert float(detections.scores[row]) == pytest.approx(len(positions) / most)


def test_the_prior_keeps_the_most_frequent_cells(tables: Tables) -> None:
    everything = bev_prior(tables, "mini_val", "mini_val", cell_m=1.0)
    few = bev_prior(tables, "mini_val", "mini_val", cell_m=1.0, max_boxes=2)
    for sample, boxes in few.items():
        for box, first in zip(boxes, everything[sample], strict=False):
            for field in ("translation", "size", "rotation", "velocity"):  # BLAS: last bits differ
                assert box[field] == pytest.approx(first[field], abs=1e-9), field
            fields = ("sample_token", "detection_name", "detection_score", "attribute_name")
            assert [box[field] for field in fields] == [first[field] for field in fields]
        scores = [box["detection_score"] for box in everything[sample]]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == 1.0


def test_boxes_without_points_or_out_of_range_are_ignored(tables: Tables) -> None:
    names = {
        box["detection_name"]
        for boxes in bev_prior(tables, "mini_val", "mini_val").values()
        for box in boxes
    }
    assert names == {"car", "pedestrian"}  # the bus has no points
    rows = read_table(tables.root, "sample_annotation")
    for row in rows:
        row["translation"] = [0.0, 0.0, 0.0]
    write_tables(tables.root, {"sample_annotation": rows})
    with pytest.raises(
        ValueError, match="must have true boxes within scoring range; got none in mini_val"
    ):
        bev_prior(Tables(tables.root, VERSION), "mini_val", "mini_val")


def test_random_boxes_follow_the_class_frequencies(tables: Tables, tmp_path: Path) -> None:
    results = random_boxes(tables, "mini_val", "mini_val", boxes_per_sample=400)
    counts = Counter(box["detection_name"] for boxes in results.values() for box in boxes)
    # 7 cars and 2 pedestrians with points: 7 / 9 of 2800 is 2178, standard deviation 22
    assert set(counts) == {"car", "pedestrian"}
    assert abs(counts["car"] - 2178) < 110
    sample = token("sample", "scene-0916", 1)
    detections = _ego_boxes(tables, results, sample, tmp_path)
    distance = detections.boxes.center[:, :2].norm(dim=-1).numpy()
    ranges = np.array([DETECTION_RANGE_M[DETECTION_CLASSES[n]] for n in detections.labels])
    assert len(detections) == 400
    assert (distance <= ranges + 1e-3).all()
    # uniform on the disc: half of the boxes are beyond 0.707 of the radius
    assert abs((distance > 0.7071 * ranges).mean() - 0.5) < 0.1


def test_random_boxes_depend_on_seed_and_sample_alone(tables: Tables) -> None:
    whole = random_boxes(tables, "mini_val", "mini_val", seed=3, boxes_per_sample=5)
    part = random_boxes(tables, "mini_val", ["scene-0916"], seed=3, boxes_per_sample=5)
    assert all(whole[sample] == boxes for sample, boxes in part.items())
    assert random_boxes(tables, "mini_val", ["scene-0916"], seed=4, boxes_per_sample=5) != part
    assert len({str([b["translation"] for b in boxes]) for boxes in whole.values()}) == 7


def test_unknown_scenes_are_refused(tables: Tables) -> None:
    for baseline in (bev_prior, random_boxes):
        with pytest.raises(ValueError, match="got 'scene-0001'"):
            baseline(tables, ["scene-0001"], "mini_val")


def test_the_best_prior_is_the_best_of_three(tables: Tables) -> None:
    pytest.importorskip("nuscenes")
    best = best_bev_prior(tables, "mini_val", "mini_val")
    assert best.results == bev_prior(tables, "mini_val", "mini_val", cell_m=best.cell_m)
    for cell_m in (1.0, 2.0, 4.0):
        results = bev_prior(tables, "mini_val", "mini_val", cell_m=cell_m)
        metrics = evaluate_with_devkit(results, tables.root, VERSION, "mini_val")
        assert metrics.nds <= best.metrics.nds
        assert (metrics == best.metrics) == (cell_m == best.cell_m)
    # computed from the scored scenes themselves, the prior is above 0
    assert best.metrics.mean_average_precision > 0.01


@pytest.mark.oracle("data_baselines_on_real_scenes")
def test_on_real_scenes_the_baselines_find_nearly_nothing(real_root: Path) -> None:
    pytest.importorskip("nuscenes")
    tables = Tables(real_root, VERSION)
    results = bev_prior(tables, ["scene-0103"], ["scene-0916"], max_boxes=100)
    prior = evaluate_with_devkit(results, real_root, VERSION, ["scene-0916"])
    assert prior.nds < 0.1
    assert prior.mean_average_precision < 0.01
