from __future__ import annotations

import json
from pathlib import Path

import pytest

from bevstack.cli.main import main
from tests.fuzz.documents import openlane_frames


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    paths = (tmp_path / "results.json", tmp_path / "truth.json")
    for path, predicted in zip(paths, (True, False), strict=True):
        path.write_text(json.dumps(openlane_frames(predicted=predicted)))
    return str(paths[0]), str(paths[1])


@pytest.mark.oracle("openlane_v2_random_small")
def test_the_scores_of_two_files_are_written_and_printed(
    oracle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = oracle_dir / "openlane_v2" / "random_small"
    content = json.loads((case / "input.json").read_text())
    for name, side in (("results", "predictions"), ("truth", "ground_truth")):
        (tmp_path / f"{name}.json").write_text(json.dumps(content[side]))
    files = ["--openlane", str(tmp_path / "results.json"), "--truth", str(tmp_path / "truth.json")]
    assert main(["evaluate", *files, "--out", str(tmp_path / "out")]) == 0
    written = json.loads((tmp_path / "out" / "openlane_scores.json").read_text())
    expected = json.loads((case / "expected.json").read_text())
    for part in ("scores", "AP_t"):
        assert written[part] == pytest.approx(expected[part], abs=1e-6)  # float32 in part
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["red", "0.5377", "8", "8"] in lines  # AP of expected.json and counts of input.json
    assert ["TOP_lt", "0.5197"] in lines


def test_only_json_is_printed_on_request(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--openlane", files[0], "--truth", files[1], "--out", str(tmp_path)]
    assert main([*command, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["scores", "AP_t"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--openlane R --out O", "--truth must be given with --openlane; got none"),
        ("--openlane R --truth T", "--out must be given with --openlane; got none"),
        ("--openlane R --truth T --out O --version v", "--truth and --out alone; got --version"),
        ("--openlane T --truth R --out O", "must be 0 or 1; got 0.75"),
        ("--openlane R --truth no --out O", "truth file must exist; got no file no"),
        ("--truth T --results R", "--truth must be given with --openlane; got no --openlane"),
        ("--results R --version v --split s", "--nuscenes must be given; got none"),
    ],
)
def test_faulty_options_and_files_end_in_one_sentence(
    options: str,
    message: str,
    files: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"R": files[0], "T": files[1], "O": str(tmp_path / "out")}
    assert main(["evaluate", *(names.get(word, word) for word in options.split())]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
