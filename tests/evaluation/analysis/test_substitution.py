from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bevstack.evaluation.analysis.reach import reaches
from bevstack.evaluation.analysis.sight import NOTHING, half_widths, see
from bevstack.evaluation.analysis.substitution import CHANGES, Substitution, look, substitute
from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import evaluate
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from tests.evaluation.analysis.test_breakdown import make_conditions
from tests.evaluation.detection3d.random_cases import random_case
from tests.evaluation.detection3d.test_evaluator import at, columns, truth


def sight(predictions: BoxColumns, wanted: GroundTruth):
    rows = np.arange(len(predictions)), np.arange(len(wanted.boxes))
    return see(predictions, wanted, scored=rows)


def row(rows: tuple[Substitution, ...], name: str) -> Substitution:
    (found,) = [r for r in rows if r.name == name]
    return found


def turned(distance: float, degrees: float, **fields: object) -> dict:
    angle = math.radians(degrees)
    place = (distance * math.cos(angle), distance * math.sin(angle), 0.0)
    return {"translation": place, **fields}


def test_a_box_sees_along_its_direction_within_a_factor_of_the_range() -> None:
    wanted = truth(at(20.0))  # 2 m wide, 4 m long: corners at 18 m, half width 3.18 degrees
    assert np.degrees(half_widths(wanted.boxes, wanted)) == pytest.approx([3.18], abs=0.01)
    limit = 0.6 * 3.18 + 0.75
    for distance, degrees, seen in (
        (33.9, 0.0, True),
        (34.1, 0.0, False),
        (11.8, 0.0, True),
        (11.7, 0.0, False),
        (20.0, limit - 0.05, True),
        (20.0, -limit + 0.05, True),
        (20.0, limit + 0.05, False),
    ):
        found = sight(columns(turned(distance, degrees)), wanted)
        assert (found.truth_of[0] != NOTHING) == seen, (distance, degrees)


def test_the_best_box_takes_what_it_sees_and_the_next_is_a_duplicate() -> None:
    wanted = truth(at(20.0))
    boxes = columns(at(20.0, score=0.4), at(25.0, score=0.8), at(60.0, score=0.9))
    found = sight(boxes, wanted)
    assert found.truth_of.tolist() == [NOTHING, 0, NOTHING]
    assert found.duplicate.tolist() == [True, False, False]
    assert found.prediction_of.tolist() == [1]


def test_a_box_of_another_class_sees_only_what_no_box_of_that_class_has() -> None:
    wanted = truth(at(20.0, name="truck"), at(30.0, name="truck", sample=1))
    boxes = columns(at(20.0), at(30.0, sample=1), at(31.0, name="truck", sample=1))
    found = sight(boxes, wanted)
    assert found.truth_of.tolist() == [NOTHING, NOTHING, 1]
    assert found.other_class.tolist() == [0, NOTHING, NOTHING]


def test_directions_wrap_behind_the_ego() -> None:
    wanted = truth(turned(10.0, 179.5))
    assert sight(columns(turned(10.0, -179.5)), wanted).truth_of.tolist() == [0]


def test_each_true_value_restores_what_was_wrong_and_nothing_else() -> None:
    wanted = truth(at(20.0, velocity=(3.0, 0.0)), turned(30.0, 40.0, sample=1))
    exact = evaluate(replace(wanted.boxes, score=np.array([0.9, 0.5])), wanted)
    quarter = (math.cos(math.pi / 8), 0.0, 0.0, math.sin(math.pi / 8))
    for wrong, restoring in (
        ({"translation": (26.0, 0.0, 0.0)}, {"true centre", "true range, own direction"}),
        ({"translation": (20.0, 0.7, 0.0)}, {"true centre", "true direction, own range"}),
        ({"velocity": (0.0, 0.0)}, {"true velocity and attribute"}),
        ({"attribute": "vehicle.parked"}, {"true velocity and attribute"}),
        ({"rotation": quarter}, {"true yaw"}),
        ({"size": (3.0, 6.0, 2.0)}, {"true size"}),
        ({"name": "bus"}, {"true class"}),
    ):
        first = {**at(20.0, velocity=(3.0, 0.0)), "score": 0.9, **wrong}
        rows = substitute(columns(first, turned(30.0, 40.0, sample=1)), wanted)
        names = {r.name for r in rows if r.nds > exact.nds - 0.02 and "missed" not in r.name}
        assert rows[0].nds < exact.nds - 0.003, wrong
        best = max(rows[1:14], key=lambda r: r.nds).name
        assert best in restoring or names & restoring, (wrong, best, names)


def test_ranking_and_duplicates_change_no_box_but_its_place_in_the_order() -> None:
    wanted = truth(at(20.0), at(20.0, sample=1))
    boxes = columns(
        at(20.5, score=0.3),
        at(20.1, score=0.2, sample=1),
        at(45.0, score=0.9),  # sees nothing
        at(20.2, score=0.1),  # sees what the first has
    )
    case = look(boxes, wanted, MetricConfig())
    first = CHANGES["boxes that see something first"](case)
    assert np.argsort(-first.score).tolist() == [0, 1, 2, 3]
    closest = CHANGES["ranked by the error of their place"](case)
    assert np.argsort(-closest.score).tolist() == [1, 0, 2, 3]
    assert len(CHANGES["without duplicates"](case)) == 3
    rows = substitute(boxes, wanted)
    assert row(rows, "boxes that see something first").mean_average_precision_gain > 0.01


def test_missed_objects_are_added_within_the_limit_of_boxes() -> None:
    wanted = truth(at(20.0), at(30.0), turned(20.0, 90.0), turned(25.0, 180.0, sample=1))
    boxes = columns(*[at(20.0 + 0.01 * n, score=0.9 - 0.001 * n) for n in range(500)])
    case = look(boxes, wanted, MetricConfig())
    added = CHANGES["missed objects added"](case)
    assert np.bincount(added.sample).tolist() == [500, 1]
    missed = set(map(tuple, np.round(added.translation[:3], 6)))
    assert (30.0, 0.0, 0.0) not in missed or len(missed) == 3
    half = CHANGES["... and half of the missed objects added"](case)
    assert len(half) < len(added) + 1


@pytest.mark.parametrize("seed", range(4))
def test_random_cases_gain_from_true_values(seed: int) -> None:
    predictions, wanted = random_case(seed)
    length = np.linalg.norm(predictions.rotation, axis=1)
    predictions = replace(  # what the devkit accepts and we refuse
        predictions,
        named_sample=predictions.sample,
        score=predictions.score.clip(0, 1),
        rotation=np.where(length[:, None] > 0, predictions.rotation, [1.0, 0.0, 0.0, 0.0]),
        velocity=np.where(np.isinf(predictions.velocity), np.nan, predictions.velocity),
    )
    rows = substitute(predictions, wanted)
    assert [r.name for r in rows] == list(CHANGES)
    assert rows[0].nds == evaluate(predictions, wanted).nds and rows[0].nds_gain == 0
    centre = row(rows, "true centre")
    assert centre.nds_gain >= 0
    assert all(r.nds_gain == r.nds - rows[0].nds for r in rows)


def test_without_any_box_only_missed_objects_bring_something() -> None:
    wanted = truth(at(20.0), at(25.0, sample=1))
    rows = substitute(columns(at(20.0))[np.zeros(1, dtype=bool)], wanted)
    gains = {r.name: r.nds_gain for r in rows}
    assert gains["missed objects added"] > 0.1
    assert all(gain == 0 for name, gain in gains.items() if "missed" not in name)


def test_reach_counts_what_is_seen_and_its_errors_by_distance_and_visibility() -> None:
    wanted = truth(at(8.0), at(20.0), turned(30.0, 90.0), at(45.0, sample=1))
    boxes = columns(at(8.3), turned(20.0, 1.0), at(47.5, sample=1))
    visibility = np.array([3, 3, 0, 0], dtype=np.int8)
    rows = reaches(boxes, wanted, make_conditions(wanted, visibility=visibility))
    found = {(r.family, r.name): r for r in rows}
    whole = found["all", "all"]
    assert (whole.objects, whole.seen) == (4, 0.75)
    assert found["range", "0-10 m"].range_error_m == pytest.approx(0.3)
    assert found["range", "20-30 m"].lateral_error_m == pytest.approx(20 * math.sin(math.pi / 180))
    assert found["range", "40-50 m"].within == (0.0, 0.0, 0.0, 1.0)
    assert found["visibility", "0-40 %"].seen == 0.5
    missed = found["range", "30-40 m"]
    assert missed.seen == 0 and math.isnan(missed.range_error_m) and missed.within == (0.0,) * 4


def test_reach_without_boxes_sees_nothing() -> None:
    wanted = truth(at(8.0))
    none = columns(at(0.0))[np.zeros(1, dtype=bool)]
    (whole, *_) = reaches(none, wanted, make_conditions(wanted))
    assert (whole.objects, whole.seen) == (1, 0.0)
