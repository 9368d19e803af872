"""``bevstack evaluate --tracking`` at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bevstack.cli.main import main
from bevstack.evaluation.detection3d.truth import samples_of_split
from bevstack.evaluation.tracking.track_file import write_tracks
from bevstack.evaluation.tracking.track_truth import tracking_truth
from bevstack.tables.reader import Tables
from bevstack.vocabulary import DETECTION_CLASSES
from tests.tables.tiny_root import VERSION, write_tiny_root


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Write a root and its true boxes as tracks; return the command that scores them."""
    tables = Tables(write_tiny_root(tmp_path / "root"), VERSION)
    truth = tracking_truth(tables, samples_of_split(tables, "mini_val"))
    boxes = truth.ground.boxes
    results: dict[str, list[dict[str, object]]] = {t: [] for t in boxes.sample_tokens.tolist()}
    for row in range(len(boxes)):
        sample = str(boxes.sample_tokens[boxes.sample[row]])
        entry = {
            "sample_token": sample,
            "translation": boxes.translation[row].tolist(),
            "size": boxes.size[row].tolist(),
            "rotation": boxes.rotation[row].tolist(),
            "velocity": [0.0, 0.0],
            "tracking_id": str(truth.instance[row]),
            "tracking_name": DETECTION_CLASSES[boxes.label[row]],
            "tracking_score": 0.5,
        }
        results[sample].append(entry)
    write_tracks(tmp_path / "tracks.json", results)
    root = ["--nuscenes", str(tmp_path / "root"), "--version", VERSION, "--split", "mini_val"]
    return ["evaluate", "--tracking", "--results", str(tmp_path / "tracks.json"), *root]


def test_true_boxes_score_one_and_files_are_written(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*command, "--out", str(out)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["all", "1.0000"] in [line[:2] for line in lines]
    summary = json.loads((out / "metrics_summary.json").read_text())
    assert summary["amota"] == 1 and summary["ids"] == 0
    more = json.loads((out / "tracking_more.json").read_text())
    assert more["scored"]["results"] == "../tracks.json"
    assert more["levels_reached"]["car"] == 40 and more["driven_m"] > 0
    assert main([*command, "--out", str(out), "--json"]) == 0  # the same file again
    assert json.loads(capsys.readouterr().out)["amota"] == 1


def test_folder_of_other_metrics_and_unfit_options_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics_summary.json").write_text("{}")
    for options, wanted in (
        (["--out", str(tmp_path / "out")], "must not be of another results file"),
        (["--groups"], "--tracking must be given without --groups; got both"),
        (["--against", "x.json"], "--tracking must be given without --against"),
    ):
        assert main([*command, *options]) == 2
        assert wanted in capsys.readouterr().err
    without_split = command[: command.index("--split")]
    assert main(without_split) == 2
    assert "--split or --scene must be given with --tracking" in capsys.readouterr().err
    without_flag = [word for word in command if word != "--tracking"]
    assert main([*without_flag, "--out", str(tmp_path / "boxes")]) == 2
    assert "these boxes are of the tracking task" in capsys.readouterr().err


def test_missing_samples_are_named(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tracks.json"
    content = json.loads(path.read_text())
    absent = list(content["results"])[1]
    del content["results"][absent]
    path.write_text(json.dumps(content))
    assert main(command) == 2
    assert f"got none for 1, such as {absent}" in capsys.readouterr().err
