"""bevstack judge --substitute on a results file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bevstack.cli.main import main
from tests.evaluation.test_scoring import truth_as_prediction
from tests.tables.tiny_root import VERSION, write_tiny_root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_root(tmp_path_factory.mktemp("judge") / "root")


def write_results(root: Path, path: Path) -> Path:
    results = truth_as_prediction(root)
    for boxes in results.values():
        for box in boxes:
            box["size"] = [2 * side for side in box["size"]]
    path.write_text(json.dumps({"meta": {}, "results": results}))
    return path


def test_it_prints_and_writes_both_tables(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = write_results(root, tmp_path / "results.json")
    where = ["--nuscenes", str(root), "--version", VERSION, "--split", "mini_val"]
    out = tmp_path / "limits"
    assert main(["judge", "--substitute", str(results), *where, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "true range, own direction" in printed and "lateral error m" in printed
    content = json.loads((out / "substitution.json").read_text())
    rows = {row["name"]: row for row in content["rows"]}
    assert rows["true size"]["nds"] > rows["nothing"]["nds"] + 0.005
    assert content["reach"][0]["name"] == "all" and content["results"] == "results.json"


def test_weights_beside_a_results_file_are_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = write_results(root, tmp_path / "results.json")
    where = ["--nuscenes", str(root), "--version", VERSION, "--split", "mini_val"]
    command = ["judge", "--substitute", str(results), "--weights", "tiny_cpu_t4", *where]
    assert main(command) == 2
    assert "--substitute must stand without weights" in capsys.readouterr().err
    command = ["judge", "--substitute", str(tmp_path / "none.json"), *where]
    assert main([*command, "--out", str(tmp_path / "o")]) == 2
    assert "none.json" in capsys.readouterr().err
