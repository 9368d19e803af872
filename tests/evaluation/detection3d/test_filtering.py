from __future__ import annotations

import json
import shutil
import unittest
from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.detection3d.columns import BicycleRacks, BoxColumns
from bevstack.evaluation.detection3d.evaluator import scored_rows
from bevstack.evaluation.detection3d.filtering import ego_distances, filter_boxes
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.detection3d.truth import ground_truth, samples_of_split
from bevstack.tables.reader import Tables
from tests.evaluation.detection3d.test_evaluator import at, columns, truth
from tests.tables.tiny_root import VERSION

NO_RACKS = truth(at(0.0)).racks


def rack(**fields: object) -> BicycleRacks:
    """Return a rack in the first sample: 2 m wide, 8 m long, turned by 30 degrees, at (3, 4, 1)."""
    half = np.pi / 12
    defaults = {
        "sample": np.zeros(1, dtype=np.int32),
        "translation": np.array([[3.0, 4.0, 1.0]]),
        "size": np.array([[2.0, 8.0, 1.5]]),
        "rotation": np.array([[np.cos(half), 0.0, 0.0, np.sin(half)]]),
    }
    return BicycleRacks(**{**defaults, **fields})


def kept(boxes: BoxColumns, racks: BicycleRacks = NO_RACKS) -> list[int]:
    distances = ego_distances(boxes, np.zeros((2, 3)))
    return filter_boxes(boxes, distances, racks, MetricConfig()).rows.tolist()


def in_rack(along: float, across: float, z: float = 1.0, name: str = "bicycle") -> dict:
    """Return a box at this offset from the rack's center, along its length and its width."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    center = (3.0 + c * along - s * across, 4.0 + s * along + c * across, z)
    return {"translation": center, "name": name}


def test_every_class_has_its_range() -> None:
    for name, range_m in MetricConfig().class_range_m.items():
        assert kept(columns(*[at(x, name=name) for x in (range_m - 1e-9, range_m)])) == [0]


def test_distance_is_taken_in_the_plane_from_the_ego_of_the_listing_sample() -> None:
    boxes = columns(
        {"translation": (30.0, 40.0 - 1e-6, 99.0)},
        {"translation": (30.0, 40.0, 0.0), "sample": 1, "named_sample": 0},
    )
    assert kept(boxes) == [0]
    ego = np.array([[0.0, 0.0, 0.0], [5.0, 1.0, 500.0]])
    assert ego_distances(boxes, ego).tolist() == pytest.approx([50.0, np.hypot(25.0, 39.0)])


def test_boxes_known_to_hold_no_point_are_left_out() -> None:
    assert kept(columns(*[at(0.0, num_points=count) for count in (0, 1, -1, 0, 7)])) == [1, 2, 4]


def test_only_cycles_in_a_rack_are_left_out() -> None:
    boxes = columns(
        in_rack(3.9, 0.9),
        in_rack(3.9, 0.9, name="motorcycle"),
        in_rack(3.9, 0.9, name="car"),
        in_rack(3.9, 0.9, name="pedestrian"),
        in_rack(4.1, 0.0),
        in_rack(0.0, 1.1),
        in_rack(0.0, 0.0, z=1.74),
        in_rack(0.0, 0.0, z=1.76),
        {**in_rack(0.0, 0.0), "sample": 1},
    )
    assert kept(boxes, rack()) == [2, 3, 4, 5, 7, 8]
    assert kept(boxes) == list(range(9))


def test_a_rack_holds_its_surface() -> None:
    straight = rack(rotation=np.array([[1.0, 0.0, 0.0, 0.0]]))
    corner = {"translation": (7.0, 5.0, 1.75), "name": "bicycle"}
    outside = {"translation": (np.nextafter(7.0, 8.0), 5.0, 1.75), "name": "bicycle"}
    assert kept(columns(corner, outside), straight) == [1]


def test_a_rack_without_height_contains_all_boxes_above_and_below_as_in_the_devkit() -> None:
    flat = rack(size=np.array([[2.0, 8.0, 0.0]]))
    boxes = columns(in_rack(0.0, 0.0, z=900.0), in_rack(0.0, 2.0, z=1.0))
    assert kept(boxes, flat) == [1]


def test_counts_follow_the_rules_in_turn(real_root: Path) -> None:
    tables = Tables(real_root, VERSION)
    mini_val = ground_truth(tables, samples_of_split(tables, "mini_val"))
    counts = scored_rows(mini_val.boxes, mini_val, MetricConfig())
    # printed by the devkit for the official mini_val
    wanted = (4441, 3785, 3393, 3393)
    assert (counts.total, counts.near, counts.with_points, counts.outside_racks) == wanted


@pytest.mark.oracle("data_rack_filter")
def test_the_devkits_own_test_of_its_filter_passes_on_ours(
    real_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_loader = pytest.importorskip("nuscenes.eval.detection.tests.test_loader")
    root = with_official_sample(real_root, tmp_path)
    tables = Tables(root, VERSION)
    calls = []

    def our_filter(nusc: object, boxes, max_dist: dict[str, float]):
        from tests.evaluation.devkit.test_devkit_suites import columns_from_devkit

        (name,) = boxes.sample_tokens
        assert max_dist == dict(MetricConfig().class_range_m)
        sample = tables.sample_row(name)
        racks = NO_RACKS
        if len(tables.annotations_of(sample)):  # the official row has no annotations
            racks = ground_truth(tables, np.array([sample])).racks
        distances = np.array([box.ego_dist for box in boxes.all])
        columns = columns_from_devkit(boxes, [name])
        rows = filter_boxes(columns, distances, racks, MetricConfig()).rows
        boxes.boxes[name] = [boxes.boxes[name][row] for row in rows]
        calls.append(len(rows))
        return boxes

    monkeypatch.setenv("NUSCENES", str(root))
    monkeypatch.setattr(test_loader, "filter_eval_boxes", our_filter)
    result = unittest.TestResult()
    test_loader.TestLoader("test_filter_eval_boxes").run(result)
    assert not [text for _, text in (*result.failures, *result.errors)]
    assert calls == [0, 0, 1, 2, 2, 2, 3]


def with_official_sample(real_root: Path, folder: Path) -> Path:
    """Copy the real tables and add one official sample, which the devkit's test needs."""
    official = real_root.parent / "nuscenes_v1.0-mini_official"
    tables = next(official.rglob("sample.json")).parent
    shutil.copytree(real_root / VERSION, folder / VERSION)
    (folder / "maps").mkdir()
    for row in json.loads((folder / VERSION / "map.json").read_text()):
        (folder / row["filename"]).touch()  # the devkit requires the files but does not read them
    samples = json.loads((tables / "sample.json").read_text())
    row = next(row for row in samples if row["token"] == "ca9a282c9e77460f8360f564131a8af5")
    scenes = json.loads((tables / "scene.json").read_text())
    scene = next(s for s in scenes if s["token"] == row["scene_token"])
    for name, added in (("sample", row), ("scene", scene)):
        path = folder / VERSION / f"{name}.json"
        path.write_text(json.dumps([*json.loads(path.read_text()), added]))
    return folder
