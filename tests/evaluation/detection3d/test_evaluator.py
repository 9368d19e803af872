from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.detection3d.columns import BicycleRacks, BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import evaluate, scored_boxes
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES
from tests.evaluation.detection3d.frozen import CASES, FILE, answers, unpack_case

ROOT = Path(__file__).resolve().parents[3]
needs_devkit = pytest.mark.skipif(
    importlib.util.find_spec("nuscenes") is None, reason="nuscenes-devkit is not installed"
)
# Cores of OpenBLAS, one for each way of rounding: (core, True if it fuses multiply-add).
CORES = (("Haswell", False), ("SkylakeX", True))


def columns(*boxes: dict, tokens: tuple[str, ...] = ("a", "b")) -> BoxColumns:
    """Return boxes as columns; defaults describe a car at the origin."""
    defaults = {
        "sample": 0,
        "translation": (0.0, 0.0, 0.0),
        "size": (2.0, 4.0, 1.5),
        "rotation": (1.0, 0.0, 0.0, 0.0),
        "velocity": (0.0, 0.0),
        "name": "car",
        "attribute": "vehicle.moving",
        "score": 0.5,
        "num_points": -1,
    }
    rows = [{**defaults, "named_sample": box.get("sample", 0), **box} for box in boxes]

    def column(name: str, dtype: type, *width: int) -> np.ndarray:
        values = [row[name] for row in rows]
        return np.array(values, dtype=dtype).reshape(len(rows), *width)

    attributes = [(*ATTRIBUTES, "").index(row["attribute"]) for row in rows]
    return BoxColumns(
        sample_tokens=np.array(tokens),
        sample=column("sample", np.int32),
        named_sample=column("named_sample", np.int32),
        translation=column("translation", float, 3),
        size=column("size", float, 3),
        rotation=column("rotation", float, 4),
        velocity=column("velocity", float, 2),
        label=np.array([DETECTION_CLASSES.index(r["name"]) for r in rows], dtype=np.int8),
        attribute=np.array([-1 if a == len(ATTRIBUTES) else a for a in attributes], dtype=np.int8),
        score=column("score", float),
        num_points=column("num_points", np.int32),
    )


def truth(*boxes: dict) -> GroundTruth:
    """Return true boxes of two samples with the ego at the origin and no rack."""
    return GroundTruth(
        boxes=columns(*[{"num_points": 5, **box} for box in boxes]),
        ego_translation=np.zeros((2, 3)),
        racks=BicycleRacks(
            sample=np.zeros(0, dtype=np.int32),
            translation=np.zeros((0, 3)),
            size=np.zeros((0, 3)),
            rotation=np.zeros((0, 4)),
        ),
    )


def car(predictions: BoxColumns, wanted: GroundTruth, *, strict: bool = False):
    """Return the metrics of the class car."""
    metrics = evaluate(predictions, wanted, strict=strict)
    return next(class_metrics for class_metrics in metrics.classes if class_metrics.name == "car")


def at(x: float, **fields: object) -> dict:
    return {"translation": (x, 0.0, 0.0), **fields}


@pytest.fixture(scope="module")
def frozen() -> dict[str, np.ndarray]:
    """Load the stored cases and answers."""
    return dict(np.load(FILE))


@needs_devkit
def test_random_cases_are_equal_to_the_devkit_to_the_last_bit() -> None:
    from tests.evaluation.detection3d.equality import compare

    outcome = compare(range(60))
    assert outcome["different"] == []
    assert outcome["equal"] >= 50


@needs_devkit
@pytest.mark.parametrize(("core", "fused"), CORES, ids=[core for core, _ in CORES])
@pytest.mark.parametrize(
    ("first", "last"), [(1000, 1030), pytest.param(0, 1000, marks=pytest.mark.slow)]
)
def test_equality_holds_in_either_rounding_of_blas(
    core: str, fused: bool, first: int, last: int
) -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    if fused and "avx512f" not in flags:
        pytest.skip("this processor lacks AVX-512, which the fused routines of OpenBLAS need")
    done = subprocess.run(
        [sys.executable, "-m", "tests.evaluation.detection3d.equality", str(first), str(last)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_CORETYPE": core, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    outcome = json.loads(done.stdout)
    if "libopenblas" not in str(np.show_config(mode="dicts")) and outcome["fused"] is not fused:
        pytest.skip("numpy's BLAS is not OpenBLAS, so its rounding cannot be chosen")
    assert outcome["fused"] is fused
    assert outcome["different"] == []
    assert outcome["equal"] >= 0.8 * (last - first)
    assert outcome["equal"] + outcome["refused"] == last - first


def test_of_equal_scores_the_later_box_comes_first() -> None:
    wanted = truth(at(0.0))
    near_last = car(columns(at(1.9), at(0.2)), wanted)
    near_first = car(columns(at(0.2), at(1.9)), wanted)
    assert near_last.errors.translation_m == pytest.approx(0.2)  # the later one is matched
    assert near_first.errors.translation_m == pytest.approx(1.9)


def test_of_equal_distances_the_first_true_box_is_taken() -> None:
    wanted = truth(at(-1.0, size=(1.0, 1.0, 1.0)), at(1.0, size=(2.0, 2.0, 2.0)))
    metrics = car(columns(at(0.0, size=(1.0, 1.0, 1.0))), wanted)
    assert metrics.errors.scale == 0.0


def test_a_taken_box_leaves_the_second_nearest() -> None:
    wanted = truth(at(0.0), at(1.5))
    metrics = car(columns(at(0.0, score=0.9), at(0.1, score=0.8)), wanted)
    assert metrics.precisions[2] == pytest.approx(1.0)  # at 2 m both match
    assert metrics.precisions[1] < 0.6  # at 1 m the second prediction has no match


def test_a_distance_equal_to_the_limit_does_not_match() -> None:
    metrics = car(columns(at(2.0)), truth(at(0.0)))
    assert metrics.precisions[:3] == (0.0, 0.0, 0.0)
    assert metrics.precisions[3] == pytest.approx(1.0)


def test_a_score_of_zero_matches_the_box_but_no_error_is_counted() -> None:
    metrics = car(columns(at(0.0, score=0.0)), truth(at(0.0)))
    assert metrics.average_precision == pytest.approx(1.0)
    assert metrics.errors.values == (1.0,) * 5


def test_a_class_range_is_open_at_its_end_and_ignores_height() -> None:
    wanted = truth(at(0.0), at(50.0))
    assert car(columns(at(0.0)), wanted).average_precision == pytest.approx(1.0)
    high = columns({"translation": (0.0, 0.0, 500.0)})
    assert car(high, truth(at(0.0))).average_precision == pytest.approx(1.0)


def test_true_boxes_without_points_do_not_count() -> None:
    wanted = truth(at(0.0), at(9.0, num_points=0))
    assert car(columns(at(0.0)), wanted).average_precision == pytest.approx(1.0)


def test_errors_that_are_unknown_count_as_none_until_one_is_known() -> None:
    wanted = truth(at(0.0, velocity=(np.nan, np.nan)), at(9.0, velocity=(0.0, 0.0)))
    first_unknown = columns(at(0.0, score=0.9), at(9.0, score=0.5, velocity=(2.0, 0.0)))
    # 0 up to recall 0.5, then rising to 2 at full recall, over recalls 0.11 to 1
    assert car(first_unknown, wanted).errors.velocity_mps == pytest.approx(51 / 90, abs=1e-9)
    nothing_known = truth(at(0.0, velocity=(np.nan, np.nan)))
    assert car(columns(at(0.0)), nothing_known).errors.velocity_mps == 1.0


def test_a_barrier_may_be_turned_by_half() -> None:
    turned = (0.0, 0.0, 0.0, 1.0)
    for name, wanted in (("barrier", 0.0), ("car", np.pi)):
        predictions = columns({"name": name, "rotation": turned})
        metrics = evaluate(predictions, truth({"name": name}))
        class_metrics = next(c for c in metrics.classes if c.name == name)
        assert class_metrics.errors.orientation_rad == pytest.approx(wanted)
        assert np.isnan(class_metrics.errors.velocity_mps) == (name == "barrier")


def test_no_predictions_score_0_and_set_the_flag() -> None:
    metrics = evaluate(columns(), truth(at(0.0)))
    assert (metrics.nds, metrics.mean_average_precision) == (0.0, 0.0)
    assert metrics.no_predictions
    assert not evaluate(columns(at(0.0)), truth(at(0.0))).no_predictions
    with pytest.raises(ValueError, match="at least one box; got none"):
        evaluate(columns(), truth(at(0.0)), strict=True)


def test_no_truth_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"2 scored samples must have true boxes .* got none"):
        evaluate(columns(at(0.0)), truth())


def test_samples_may_have_another_order_than_the_truths() -> None:
    wanted = truth(at(0.0), at(5.0, sample=1))
    predictions = columns(at(5.0, sample=0), at(0.0, sample=1), tokens=("b", "a"))
    assert car(predictions, wanted).average_precision == pytest.approx(1.0)
    more = columns(at(5.0, sample=0), at(0.0, sample=2), tokens=("b", "c", "a"))
    assert car(more, wanted).average_precision == pytest.approx(1.0)


def test_boxes_with_another_list_of_samples_are_refused() -> None:
    wanted = truth(at(0.0))
    with pytest.raises(ValueError, match=r"have the truth.s sample_tokens, .*select_samples"):
        scored_boxes(columns(at(0.0), tokens=("b", "a")), wanted, MetricConfig())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"score": -0.5}, r"detection_score of box 1 of sample 'b' must be a number of at least 0"),
        ({"score": np.inf}, "detection_score of box 1 .*; got inf"),
        ({"translation": (0.0, np.inf, 0.0)}, "translation of box 1 .* must be finite"),
        ({"size": (1.0, 0.0, 1.0)}, "size of box 1 .* must be positive and finite"),
        ({"rotation": (0.0,) * 4}, "rotation of box 1 .* non-zero length"),
        ({"velocity": (np.inf, 0.0)}, "velocity of box 1 .* must be finite, or NaN"),
        ({"named_sample": 0}, "sample_token of box 1 .* must be the sample .*; got 'a'"),
        ({"named_sample": -1}, "sample_token of box 1 .*; got an unknown sample"),
    ],
)
def test_an_impossible_box_is_refused_by_name(fields: dict, message: str) -> None:
    good = (at(0.0), at(0.0, sample=1))
    evaluate(columns(*good), truth(at(0.0)))
    with pytest.raises(ValueError, match=message):
        evaluate(columns(*good, {"sample": 1, **fields}), truth(at(0.0)))


def test_strict_accepts_what_the_devkit_accepts() -> None:
    wanted = truth(at(0.0))
    assert car(columns(at(0.0, score=-0.5)), wanted, strict=True).errors.translation_m == 0.0
    with pytest.raises(ValueError, match="confidence of car must not rise with recall"):
        evaluate(columns(at(0.0, score=-0.5)), truth(at(0.0), at(9.0)), strict=True)
    evaluate(columns(at(9.0, size=(0.0, 1.0, 1.0)), at(0.0)), wanted, strict=True)
    with pytest.raises(ValueError, match="sizes of matched boxes must be positive"):
        evaluate(columns(at(0.0, size=(0.0, 1.0, 1.0))), wanted, strict=True)
    with pytest.raises(ValueError, match=r"translation of box 0 .* not NaN"):
        evaluate(columns(at(np.nan)), wanted, strict=True)


@pytest.mark.parametrize("strict", [True, False])
def test_too_many_boxes_of_one_sample_are_refused(strict: bool) -> None:
    full = [at(0.0, sample=1)] * 500
    assert evaluate(columns(*full), truth(at(0.0)), strict=strict).nds == 0.0
    with pytest.raises(ValueError, match="sample 'b' must be a list of at most 500 boxes; got 501"):
        evaluate(columns(*full, at(0.0, sample=1)), truth(at(0.0)), strict=strict)


def test_settings_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="error_distance_m must be one of"):
        MetricConfig(error_distance_m=3.0)
    with pytest.raises(ValueError, match="class_range_m must name the classes"):
        MetricConfig(class_range_m={"car": 50.0})
    with pytest.raises(ValueError, match="min_precision must be in its range; got 1"):
        MetricConfig(min_precision=1.0)
    assert evaluate(columns(at(2.0)), truth(at(0.0)), MetricConfig(distances_m=(2.0, 3.0))).nds > 0


@pytest.mark.parametrize("number", range(CASES))
def test_frozen_answers_of_the_devkit_are_met(number: int, frozen: dict[str, np.ndarray]) -> None:
    predictions, wanted = unpack_case(number, frozen)
    figures = answers(evaluate(predictions, wanted, strict=True))
    # the devkit's own last bits differ between processors and releases of numpy
    assert np.allclose(figures, frozen["answers"][number], rtol=1e-9, atol=1e-9, equal_nan=True)
