"""Scores of a part of a split, and the results file that a metrics file belongs to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bevstack.evaluation.detection3d.truth import samples_of_split
from bevstack.evaluation.scoring import evaluate_results
from bevstack.tables.reader import Tables
from tests.cli.test_evaluate import FILES, evaluate, expect_refusal, results, whole_root
from tests.tables.tiny_root import VERSION

__all__ = ["results", "whole_root"]  # fixtures


def scene_of(whole_root: Path, results: Path, scene: str) -> Path:
    """Write the results of one scene beside a results file."""
    tables = Tables(whole_root, VERSION)
    tokens = set(np.asarray(tables.samples.token)[samples_of_split(tables, [scene])].tolist())
    content = json.loads(results.read_text())
    content["results"] = {t: boxes for t, boxes in content["results"].items() if t in tokens}
    path = results.with_name(f"{scene}.json")
    path.write_text(json.dumps(content))
    return path


def test_results_of_a_part_name_the_options_that_score_them(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = scene_of(whole_root, results, "scene-0916")
    code = evaluate(part, whole_root)
    expect_refusal(capsys, code, "got none for 4", "with --scene scene-0916", "--only-predicted")
    assert evaluate(part, whole_root, "--scene", "scene-0916", split="") == 0


@pytest.mark.parametrize("split", ["mini_val", ""])
def test_only_the_predicted_samples_are_scored_and_the_metrics_file_states_it(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    part = scene_of(whole_root, results, "scene-0916")
    content = json.loads(part.read_text())
    content["results"].popitem()
    part.write_text(json.dumps(content))
    assert evaluate(part, whole_root, "--only-predicted", split=split) == 0
    text = capsys.readouterr().out
    assert "note: only the 2 samples of the results are scored" in text and "mAP: 0." in text
    summary = json.loads((part.parent / FILES[1]).read_text())
    assert summary["scored"] == {
        "results": "scene-0916.json",
        "samples": 2,
        "scenes": split or None,
        "only_predicted": True,
    }


def test_a_part_is_not_compared_with_a_whole_file(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part, other = (scene_of(whole_root, results, f"scene-{n}") for n in ("0916", "0103"))
    for against, numbers in ((results, "7 in r.json and 3 in both"), (other, "and 0 in both")):
        code = evaluate(part, whole_root, "--only-predicted", "--against", str(against))
        expect_refusal(capsys, code, "--against must hold the same samples", numbers)
    same = ["--only-predicted", "--against", str(part), "--draws", "2"]
    assert evaluate(part, whole_root, *same) == 0


def test_only_predicted_refuses_samples_that_the_version_does_not_hold(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(results.read_text())
    results.write_text(json.dumps({"meta": {}, "results": {**content["results"], "x": []}}))
    code = evaluate(results, whole_root, "--only-predicted", split="")
    expect_refusal(capsys, code, f"the version {VERSION}; got 1 more, such as x")
    results.write_text(json.dumps({"meta": {}, "results": {"x": []}}))
    code = evaluate(results, whole_root, "--only-predicted", split="")
    expect_refusal(capsys, code, "does not hold: it was made for another version")
    results.write_text(json.dumps({"meta": {}, "results": {}}))
    expect_refusal(capsys, evaluate(results, whole_root, "--only-predicted", split=""), "got none")
    expect_refusal(
        capsys, evaluate(results, whole_root, split=""), "--only-predicted must be given"
    )


def test_metrics_of_another_file_are_not_overwritten(
    whole_root: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(results.read_bytes())
    out = tmp_path / "scores"
    for options in ((), ("--out", str(out))):
        assert evaluate(results, whole_root, *options) == 0
        capsys.readouterr()
        summary = Path(options[1] if options else tmp_path) / FILES[1]
        before = summary.read_bytes()
        source = json.loads(before)["scored"]["results"]
        code = evaluate(other, whole_root, *options)
        expect_refusal(capsys, code, f"got metrics of {source}", "--out DIR")
        assert summary.read_bytes() == before
        assert evaluate(results, whole_root, *options) == 0  # its own metrics are replaced


def test_metrics_that_name_no_file_are_replaced_by_equal_ones_alone(
    whole_root: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    evaluate_results(results, whole_root, VERSION, "mini_val", out)  # as the devkit writes them
    assert evaluate(results, whole_root, "--out", str(out)) == 0
    assert "scored" in json.loads((out / FILES[1]).read_text())
    evaluate_results(results, whole_root, VERSION, ["scene-0916"], out)
    before = json.loads((out / FILES[1]).read_text())
    for text in (json.dumps({**before, "nd_score": 0.5}), '{"nd_score": 0.5}', "[", "[]"):
        (out / FILES[1]).write_text(text)
        capsys.readouterr()
        code = evaluate(results, whole_root, "--out", str(out))
        expect_refusal(capsys, code, "metrics of an unknown file")
        assert (out / FILES[1]).read_text() == text
