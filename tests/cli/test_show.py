"""`bevstack show`: paths of the pictures, and one sentence after a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from bevstack.cli.main import main
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.results.submission import write_submission
from tests.tables.tiny_root import VERSION, write_tiny_root


@pytest.fixture
def results(tmp_path: Path) -> Path:
    dataset = NuScenesDataset(write_tiny_root(tmp_path / "root"), VERSION)
    tokens = [dataset.sample_token(index) for index in range(len(dataset))]
    write_submission(tmp_path / "results.json", {token: [] for token in tokens})
    return tmp_path / "results.json"


def show(results: Path, *arguments: str) -> int:
    root = str(results.parent / "root")
    fixed = ["show", "--results", str(results), "--nuscenes", root, "--version", VERSION]
    return main([*fixed, "--out", str(results.parent / "out"), *arguments])


def test_paths_of_the_pictures_are_printed(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(results, "--scene", "scene-0916", "--max-frames", "2", "--min-score", "0.5") == 0
    printed = [Path(line) for line in capsys.readouterr().out.split()]
    assert [path.name for path in printed] == ["scene-0916_000.jpg", "scene-0916_001.jpg"]
    assert all(path.is_file() for path in printed)


def test_one_sample_without_its_truth_is_drawn(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = NuScenesDataset(results.parent / "root", VERSION).sample_token(1)
    assert show(results, "--sample", token, "--no-truth") == 0
    assert capsys.readouterr().out.split()[0].endswith("scene-0103_001.jpg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scene", "scene-9999"], "scene-9999"),
        (["--sample", "nothing"], "'nothing'"),
        (["--max-frames", "0"], "--max-frames must be at least 1; got 0"),
        (["--rig", "rig.json"], "either --nuscenes ROOT or --rig FILE must be given; got both"),
    ],
)
def test_mistakes_end_with_one_sentence(
    results: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert show(results, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("bevstack show: error: ")
    assert error.count("\n") == 1


def test_folder_that_cannot_be_written_is_named(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results.parent / "out").write_text("a file stands where the folder should be")
    assert show(results) == 2
    assert "out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got neither"),
        (["--nuscenes", "root"], "--version must be given"),
        (["--rig", "rig.json"], "--images DIR must be given"),
    ],
)
def test_incomplete_commands_end_with_the_missing_option(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["show", "--results", "r.json", "--out", "out", *arguments]) == 2
    assert message in capsys.readouterr().err
