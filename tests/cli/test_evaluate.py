from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bevstack.cli.main import main
from bevstack.evaluation.results.submission import write_submission
from tests.evaluation.test_scoring import truth_as_prediction
from tests.tables.tiny_root import VERSION, write_tiny_root

FILES = ["metrics_details.json", "metrics_summary.json"]


@pytest.fixture(scope="module")
def whole_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_root(tmp_path_factory.mktemp("evaluate") / "root")


@pytest.fixture
def results(whole_root: Path, tmp_path: Path) -> Path:
    write_submission(tmp_path / "r.json", truth_as_prediction(whole_root))
    return tmp_path / "r.json"


def evaluate(results: Path, root: Path, *more: str, split: str = "mini_val") -> int:
    where = ["--nuscenes", str(root), "--version", VERSION]
    scenes = ["--split", split] if split else []
    return main(["evaluate", "--results", str(results), *where, *scenes, *more])


def expect_refusal(capsys: pytest.CaptureFixture[str], code: int, *parts: str) -> None:
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("bevstack evaluate: error: "), captured.err
    assert not [part for part in parts if part not in lines[0]], lines[0]


def change(path: Path, **fields: object) -> None:
    """Add a box with changed fields to the first sample."""
    content = json.loads(path.read_text())
    boxes = content["results"][next(iter(content["results"]))]
    boxes.append({**boxes[0], **fields})
    path.write_text(json.dumps(content))


def test_the_table_is_the_devkits_and_the_files_are_written(
    whole_root: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores"
    assert evaluate(results, whole_root, "--out", str(out), "--per-class") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mAP: 0.2000"
    assert [line.split(":")[0] for line in lines[1:8]] == [
        *("mATE", "mASE", "mAOE", "mAVE", "mAAE", "NDS", "Eval time")
    ]
    assert lines[9:11] == [
        "Per-class results:",
        "Object Class        \tAP    \tATE   \tASE   \tAOE   \tAVE   \tAAE   ",
    ]
    assert lines[11].startswith("car                 \t1.000 \t0.000 \t0.000 ")
    assert lines[19] == "traffic_cone        \t0.000 \t1.000 \t1.000 \tnan   \tnan   \tnan   "
    assert lines[-1] == f"metrics: {out / 'metrics_summary.json'}"
    assert sorted(os.listdir(out)) == FILES


def test_scenes_may_be_named_and_files_go_beside_the_results(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(results, whole_root, "--scene", "scene-0916", split="") == 0
    assert "mAP: 0.2000" in capsys.readouterr().out
    assert sorted(os.listdir(results.parent)) == [*FILES, "r.json"]


def test_json_is_the_summary_and_nothing_else(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(results, whole_root, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((results.parent / FILES[1]).read_text())
    assert json.dumps(printed) == json.dumps(written)  # NaN equals NaN


def test_on_a_terminal_the_table_is_drawn(
    whole_root: Path,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert evaluate(results, whole_root) == 0
    text = capsys.readouterr().out
    assert "mAP" in text and "│" in text and "pedestrian" in text and "7 samples" in text


def test_groups_comparison_and_report_on_request(
    whole_root: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.safetensors"
    write_submission(other, {t: boxes[:1] for t, boxes in truth_as_prediction(whole_root).items()})
    out = tmp_path / "out"
    options = ["--groups", "--against", str(other), "--report", "--draws", "5", "--out", str(out)]
    assert evaluate(results, whole_root, *options) == 0
    text = capsys.readouterr().out
    assert "range: 10-20 m" in text and "motion: moving" in text and "light: night" not in text
    assert "other.safetensors" in text and "AP pedestrian" in text
    assert "note: 2 scenes are too few for reliable intervals" in text
    assert "beyond chance;" in text and "beyond chance" not in text.replace("beyond chance;", "")
    assert f"report: {out / 'report.html'}" in text
    pictures = ["errors.png", "precision.png", "reliability.png"]
    assert sorted(os.listdir(out)) == sorted([*FILES, *pictures, "report.html"])


def test_another_submission_is_checked_before_anything_is_written(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = results.parent / "other.json"
    other.write_text('{"meta": {}, "results": {}}')
    out = results.parent / "out"
    code = evaluate(results, whole_root, "--against", str(other), "--out", str(out))
    expect_refusal(capsys, code, "got none for 7")
    assert not out.exists()


def test_a_comparison_needs_draws(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = evaluate(results, whole_root, "--against", str(results), "--draws", "0")
    expect_refusal(capsys, code, "--draws must be at least 1 with --against; got 0")


def test_results_without_a_box_are_noted(
    whole_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = {token: [] for token in truth_as_prediction(whole_root)}
    write_submission(tmp_path / "empty.json", empty)
    assert evaluate(tmp_path / "empty.json", whole_root) == 0
    text = capsys.readouterr().out
    assert "NDS: 0.0000" in text and "the results hold no predicted box" in text


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"detection_name": "cars"}, ("got 'cars'", "did you mean 'car'")),
        ({"attribute_name": "vehicle.parkd"}, ("did you mean 'vehicle.parked'",)),
        ({"translation": [float("nan"), 0, 0]}, ("translation of box", "must be finite")),
        ({"size": [1, float("inf"), 1]}, ("size of box", "must be positive and finite")),
        ({"rotation": [0, 0, 0, 0]}, ("rotation of box", "non-zero length")),
        ({"detection_score": -1}, ("detection_score of box", "got -1.0")),
        ({"velocity": [1]}, ("velocity of box", "must be 2 numbers; got [1]")),
        ({"velocity": [None, 1]}, ("velocity of box", "2 numbers; got [None, 1]")),
        ({"sample_token": "other"}, ("sample_token of box", "an unknown sample")),
        ({"size": "large"}, ("size of box", "got 'large'")),
    ],
)
def test_a_wrong_box_is_named(
    whole_root: Path,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    fields: dict,
    parts: tuple[str, ...],
) -> None:
    change(results, **fields)
    code = evaluate(results, whole_root, "--out", str(results.parent / "out"))
    expect_refusal(capsys, code, "must be", *parts)
    assert not (results.parent / "out").exists()


def test_the_error_for_a_cut_off_file_names_the_byte(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = results.stat().st_size
    results.write_bytes(results.read_bytes()[: size - 100])
    expect_refusal(capsys, evaluate(results, whole_root), "at byte", f"of {size - 100}", "cut off")


def test_missing_extra_and_foreign_samples_are_counted(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = json.loads(results.read_text())
    tokens = list(whole["results"])
    some = {token: whole["results"][token] for token in tokens[:3]}
    for predicted, parts in (
        (some, ("got none for 4", *tokens[3:6])),
        ({**whole["results"], "x": [], "y": []}, ("got 2 more", "x, y")),
        ({"p": [], "q": []}, ("got 2 different samples", "p, q", "another version")),
    ):
        results.write_text(json.dumps({"meta": {}, "results": predicted}))
        expect_refusal(capsys, evaluate(results, whole_root), *parts)


@pytest.mark.parametrize("content", ['{"results": {}}', '{"meta": {}, "result": {}}', "[]", "7"])
def test_another_structure_is_refused(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    results.write_text(content)
    expect_refusal(
        capsys, evaluate(results, whole_root), "must be an object with 'meta' and 'results'; got"
    )


def test_too_many_boxes_are_refused(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(results.read_text())
    token = next(iter(content["results"]))
    content["results"][token] = [content["results"][token][0]] * 501
    results.write_text(json.dumps(content))
    expect_refusal(capsys, evaluate(results, whole_root), token, "at most 500 boxes; got 501")


def test_a_version_without_the_split_is_refused(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = evaluate(results, whole_root, split="val")
    expect_refusal(capsys, code, "'val'", "a version that ends in 'trainval'", VERSION)
    code = evaluate(results, whole_root, split="mini_vall")
    expect_refusal(capsys, code, "did you mean 'mini_val'")


def test_a_missing_file_or_root_is_named(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = results.parent / "none.json"
    expect_refusal(capsys, evaluate(missing, whole_root), "got no file", "none.json")
    expect_refusal(capsys, evaluate(missing.with_suffix(".safetensors"), whole_root), "got no file")
    expect_refusal(capsys, evaluate(results, whole_root / "nowhere"), "nowhere")


def test_results_may_stand_first_and_are_given_once(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--nuscenes", str(whole_root), "--version", VERSION, "--split", "mini_val"]
    assert main(["evaluate", str(results), "--against", str(results), *where]) == 0
    assert "mAP: " in capsys.readouterr().out
    code = main(["evaluate", str(results), "--results", str(results), *where])
    expect_refusal(capsys, code, "one results file must be given", "r.json and ")
    expect_refusal(capsys, main(["evaluate", *where]), "one results file must be given; got none")


def test_strict_accepts_what_the_devkit_accepts(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(results, velocity=[float("inf"), 0.0], sample_token="other")
    expect_refusal(capsys, evaluate(results, whole_root), "must be")
    assert evaluate(results, whole_root, "--strict") == 0
    assert "mAP: " in capsys.readouterr().out


def test_an_output_folder_that_cannot_be_made_is_named(
    whole_root: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results.parent / "file").write_text("in the way")
    out = results.parent / "file" / "out"
    expect_refusal(capsys, evaluate(results, whole_root, "--out", str(out)), str(out))
