"""OpenLane-V2's scores against the stored ones of the official code and against plain loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from bevstack.evaluation.traffic.openlane_file import parse_openlane_frames
from bevstack.evaluation.traffic.openlane_score import OpenLaneScores, score_openlane
from tests.conftest import shared_dir
from tests.evaluation.traffic import openlane_inputs, openlane_loops

# The stored scores are float32 in part.
TOLERANCE = 1e-6


def _cases() -> list[Any]:
    shared = shared_dir()
    folders = sorted((shared / "oracle" / "openlane_v2").iterdir()) if shared else []
    names = [folder.name for folder in folders if folder.is_dir()] or ["none_stored"]
    return [pytest.param(n, marks=pytest.mark.oracle(f"openlane_v2_{n}"), id=n) for n in names]


def score(truth: Any, results: Any) -> OpenLaneScores:
    return score_openlane(
        parse_openlane_frames(truth, "truth.json", predicted=False),
        parse_openlane_frames(results, "results.json", predicted=True),
    )


@pytest.mark.parametrize("case", _cases())
def test_scores_equal_those_of_the_official_code(case: str, oracle_dir: Path) -> None:
    folder = oracle_dir / "openlane_v2" / case
    stable = folder / "expected_stable_order.json"
    expected = json.loads((stable if stable.exists() else folder / "expected.json").read_text())
    content = json.loads((folder / "input.json").read_text())
    found = score(content["ground_truth"], content["predictions"]).to_dict()
    assert found.keys() == expected.keys()
    for part, values in expected.items():
        assert list(found[part]) == list(values)
        assert found[part] == pytest.approx(values, abs=TOLERANCE)


@settings(max_examples=30, deadline=None)
@given(openlane_inputs.cases())
def test_scores_equal_loops_from_the_formulas(case: tuple[Any, Any]) -> None:
    expect_equal_to_loops(case)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(openlane_inputs.cases())
def test_scores_of_many_inputs_equal_loops(case: tuple[Any, Any]) -> None:
    expect_equal_to_loops(case)


def expect_equal_to_loops(case: tuple[Any, Any]) -> None:
    expected = openlane_loops.scores(*case)
    found = score(*case).to_dict()
    assert found["scores"] == pytest.approx(expected["scores"], abs=TOLERANCE)
    assert list(found["AP_t"].values()) == pytest.approx(expected["AP_t"], abs=TOLERANCE)


def frame(*elements: tuple[int, list[list[float]], float]) -> dict[str, Any]:
    return {
        "lane_centerline": [],
        "traffic_element": [
            {"id": i, "category": 1, "attribute": a, "points": box, "confidence": c}
            for i, (a, box, c) in enumerate(elements)
        ],
        "topology_lclc": [],
        "topology_lcte": [],
    }


def test_the_macro_precision_leaves_out_absent_attributes_and_counts_are_kept() -> None:
    box, far = [[0, 0], [4, 4]], [[50, 50], [54, 54]]
    truth = {"a": frame((1, box, 1), (1, far, 1), (2, box, 1))}
    results = {"a": frame((1, box, 0.9), (3, far, 0.8))}
    scores = score(truth, results)
    assert scores.num_truth[:4] == (0, 2, 1, 0) and scores.num_predictions[:4] == (0, 1, 0, 1)
    # Red: recall 1/2 with precision 1 reaches 6 of 11 levels. Green 0. Yellow has no truth.
    assert scores.macro_precision == pytest.approx((6 / 11 + 0) / 2, abs=TOLERANCE)
    assert scores.det_t == pytest.approx((6 / 11 + 0 + 0 + 10) / 13, abs=TOLERANCE)
    assert np.isnan(score({"a": frame()}, {"a": frame()}).macro_precision)


def test_sides_with_other_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 frames of the truth without results.*the first 'b'"):
        score({"a": frame(), "b": frame()}, {"a": frame()})
    with pytest.raises(ValueError, match=r"and 1 results without truth, the first 'c'"):
        score({"a": frame()}, {"a": frame(), "c": frame()})
    with pytest.raises(ValueError, match="at least one frame"):
        score({}, {})
