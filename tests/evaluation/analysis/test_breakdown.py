from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.analysis.breakdown import break_down
from bevstack.evaluation.analysis.conditions import (
    UNKNOWN,
    Conditions,
    band_names,
    bands,
    motion,
    read_conditions,
    sectors,
)
from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import evaluate
from bevstack.evaluation.scoring import load
from bevstack.tables.reader import Tables
from tests.evaluation.detection3d.random_cases import random_case
from tests.evaluation.detection3d.test_evaluator import at, columns, truth
from tests.tables.tiny_root import VERSION


def make_conditions(wanted: GroundTruth, **fields: object) -> Conditions:
    """Return conditions: one scene per sample, by day and dry, one camera ahead and one behind."""
    samples = len(wanted.boxes.sample_tokens)
    defaults: dict = {
        "scene": np.arange(samples, dtype=np.int32),
        "scene_names": tuple(f"scene-{n}" for n in range(samples)),
        "night": np.zeros(samples, dtype=bool),
        "rain": np.zeros(samples, dtype=bool),
        "ego_yaw": np.zeros(samples),
        "cameras": ("BEHIND", "AHEAD"),
        "camera_yaw": np.tile([np.pi, 0.0], (samples, 1)),
        "visibility": np.full(len(wanted.boxes), UNKNOWN, dtype=np.int8),
    }
    return Conditions(**{**defaults, **fields})


def find_group(groups, family: str, name: str):
    (group,) = [g for g in groups if (g.family, g.name) == (family, name)]
    return group


def subset(wanted: GroundTruth, kept: np.ndarray) -> GroundTruth:
    return replace(wanted, boxes=wanted.boxes[kept])


@pytest.mark.parametrize("seed", range(12))
def test_all_together_are_the_metric_over_the_classes_present(seed: int) -> None:
    predictions, wanted = random_case(seed)
    metrics = evaluate(predictions, wanted, strict=True)
    everything = find_group(break_down(predictions, wanted, make_conditions(wanted)), "all", "all")
    class_metrics = {c.name: c for c in metrics.classes}
    for metrics_of_class in everything.classes:
        assert (
            metrics_of_class.average_precision
            == class_metrics[metrics_of_class.name].average_precision
        )
        assert np.array_equal(
            metrics_of_class.errors.values,
            class_metrics[metrics_of_class.name].errors.values,
            equal_nan=True,
        )
    absent = len(class_metrics) - len(everything.classes)
    assert everything.mean_average_precision * len(everything.classes) == pytest.approx(
        metrics.mean_average_precision * (len(everything.classes) + absent)
    )


@pytest.mark.parametrize("seed", range(12))
def test_samples_of_one_light_are_scored_as_if_they_were_alone(seed: int) -> None:
    predictions, wanted = random_case(seed)
    foreign = predictions.named_sample != predictions.sample
    predictions = predictions[~foreign]
    night = np.arange(len(wanted.boxes.sample_tokens)) % 2 == 1
    groups = break_down(predictions, wanted, make_conditions(wanted, night=night))
    for name, dark in (("day", False), ("night", True)):
        kept = night[wanted.boxes.sample] == dark
        alone = break_down(
            predictions[night[predictions.sample] == dark],
            subset(wanted, kept),
            make_conditions(subset(wanted, kept)),
        )
        one, other = find_group(groups, "light", name), find_group(alone, "all", "all")
        assert one.num_truth == other.num_truth
        assert one.mean_average_precision == other.mean_average_precision or not one.num_truth
        for ours, expected in zip(one.classes, other.classes, strict=True):
            assert np.array_equal(ours.errors.values, expected.errors.values, equal_nan=True)


def test_a_match_across_the_border_of_a_band_costs_no_precision() -> None:
    wanted = truth(at(9.9), at(25.0))
    predictions = columns(at(10.1, score=0.9), at(25.0, score=0.8), at(35.0, score=0.95))
    groups = break_down(predictions, wanted, make_conditions(wanted))
    near, middle, far = (find_group(groups, "range", n) for n in ("0-10 m", "20-30 m", "30-40 m"))
    assert near.num_truth == middle.num_truth == 1 and far.num_truth == 0
    # the box at 10.1 m matches that at 9.9 m; the one at 35 m matches none and is in another band
    assert near.mean_average_precision == middle.mean_average_precision == pytest.approx(1.0)
    assert math.isnan(far.mean_average_precision)
    assert find_group(groups, "all", "all").mean_average_precision < 0.8


def test_an_unmatched_prediction_counts_in_every_level_of_visibility() -> None:
    wanted = truth(at(0.0), at(20.0))
    visibility = np.array([0, 3], dtype=np.int8)
    predictions = columns(at(0.0, score=0.5), at(20.0, score=0.5), at(30.0, score=0.9))
    groups = break_down(predictions, wanted, make_conditions(wanted, visibility=visibility))
    for name in ("0-40 %", "80-100 %"):
        # one wrong box with a higher score halves the precision: (0.5 - 0.1) / 0.9
        assert find_group(groups, "visibility", name).mean_average_precision < 0.5
    assert find_group(groups, "visibility", "40-60 %").num_truth == 0


def test_bands_sectors_and_motion_follow_from_position_and_speed() -> None:
    wanted = truth(at(0.0))
    boxes = columns(
        at(9.99),
        at(-10.0),
        {"translation": (0.0, 45.0, 3.0), "velocity": (0.6, 0.0)},
        at(39.0, velocity=(np.nan, 0.0)),
        at(5.0, sample=1, velocity=(0.3, 0.3)),
    )
    assert band_names(50.0)[bands(boxes, wanted)[2]] == "40-50 m"
    assert bands(boxes, wanted).tolist() == [0, 1, 4, 3, 0]
    assert motion(boxes).tolist() == [0, 0, 1, UNKNOWN, 0]
    turned = make_conditions(wanted, ego_yaw=np.array([0.0, np.pi]))
    assert sectors(boxes, wanted, turned).tolist()[:2] == [1, 0]
    assert sectors(boxes, wanted, turned).tolist()[4] == 0  # the vehicle faces the other way
    without = make_conditions(wanted, camera_yaw=np.full((2, 2), np.nan))
    assert set(sectors(boxes, wanted, without).tolist()) == {UNKNOWN}


def test_conditions_are_read_from_the_tables(real_root: Path) -> None:
    tables = Tables(real_root, VERSION)
    results = real_root.parent / "detector_results/trelpy_lidar/results_nusc.json"
    loaded = load(results, tables, "mini_val")
    conditions = read_conditions(tables, loaded.samples)
    assert conditions.scene_names == ("scene-0103", "scene-0916")
    assert np.bincount(conditions.scene).tolist() == [40, 41]
    assert len(conditions.visibility) == len(loaded.truth.boxes)
    assert not conditions.night.any() and not conditions.rain.any()
    yaw = np.degrees(conditions.camera_yaw[0]) % 360
    by_name = dict(zip(conditions.cameras, yaw, strict=True))
    # from nuScenes' drawing of the sensors; mounting differs by some degrees
    nominal = {"CAM_FRONT": 0, "CAM_FRONT_LEFT": 55, "CAM_BACK_LEFT": 110, "CAM_BACK": 180}
    nominal |= {"CAM_BACK_RIGHT": 250, "CAM_FRONT_RIGHT": 305}
    assert set(by_name) == set(nominal)
    for name, degrees in nominal.items():
        assert abs((by_name[name] - degrees + 180) % 360 - 180) < 4, name
    boxes: BoxColumns = loaded.truth.boxes
    sector = sectors(boxes, loaded.truth, conditions)
    assert np.bincount(sector, minlength=6).min() > 50 and sector.min() >= 0
    counts = {g.family: 0 for g in break_down(boxes[:0], loaded.truth, conditions)}
    for group in break_down(boxes[:0], loaded.truth, conditions):
        counts[group.family] += group.num_truth
    assert counts["range"] == counts["camera"] == counts["light"] == counts["all"] == 3393
