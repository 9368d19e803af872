from __future__ import annotations

import json
from pathlib import Path

import pytest

from bevstack.cli.main import main
from bevstack.evaluation.traffic.traffic_frames import TrafficFrame, write_traffic_frames
from tests.fuzz.documents import openlane_frames, traffic_elements
from tests.tables.tiny_root import VERSION, token, write_tiny_root


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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write a root with one light in the first sample of a scene, and empty predictions."""
    root = write_tiny_root(tmp_path / "root")
    samples = [token("sample", "scene-0103", number) for number in range(4)]
    row = traffic_elements()["traffic_element"][0] | {"sample_token": samples[0]}
    (root / VERSION / "traffic_element.json").write_text(json.dumps([row]))
    frames = [
        TrafficFrame(timestamp_us=number, cameras=("CAM_FRONT",), sample_token=sample)
        for number, sample in enumerate(samples)
    ]
    write_traffic_frames(tmp_path / "elements.json", frames, {})
    return root


def test_elements_of_a_root_are_scored(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = str(tmp_path / "elements.json"), str(tmp_path / "out")
    data = ["--nuscenes", str(root), "--version", VERSION, "--draws", "5", "--out", out]
    assert main(["evaluate", "--traffic", file, *data, "--scene", "scene-0103"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["red", "0.0000", "1"] in [line[:3] for line in lines]
    metrics = json.loads((tmp_path / "out" / "traffic_metrics.json").read_text())
    assert metrics["AP"] == {"red": {"AP": 0.0, "true": 1, "predicted": 0}}
    assert metrics["DET_t"] == pytest.approx(12 / 13) and metrics["states"] is None
    assert main(["evaluate", "--traffic", file, *data, "--scene", "scene-0916"]) == 2
    assert "must hold a frame for every sample of the split" in capsys.readouterr().err


def test_another_file_is_compared_over_shared_draws_of_scenes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = str(tmp_path / "elements.json"), str(tmp_path / "out")
    data = ["--nuscenes", str(root), "--version", VERSION, "--draws", "5", "--out", out]
    other = ["--against", str(tmp_path / "other.json")]
    (tmp_path / "other.json").write_bytes((tmp_path / "elements.json").read_bytes())
    assert main(["evaluate", "--traffic", file, *data, "--scene", "scene-0103", *other]) == 0
    text = capsys.readouterr().out
    assert "minus elements.json" in text and "scenes are too few" in text
    assert not any("beyond" in line for line in text.splitlines() if "AP" in line)
    against = json.loads((tmp_path / "out" / "traffic_metrics.json").read_text())["against"]
    assert against["file"] == "other.json"
    found = {i["name"]: i["value"] for i in against["differences"]}
    assert found["macro AP"] == 0.0 and found["AP green >=6 px"] is None  # no true element


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--openlane R --out O", "--truth must be given with --openlane; got none"),
        ("--openlane R --truth T", "--out must be given with --openlane; got none"),
        ("--openlane R --truth T --out O --version v", "--truth and --out alone; got --version"),
        ("--openlane T --truth R --out O", "must be 0 or 1; got 0.75"),
        ("--openlane R --truth no --out O", "truth file must exist; got no file no"),
        ("--traffic T --nuscenes N --version v --split s", "--out must be given with --traffic"),
        ("--traffic T --nuscenes N --version v --out O", "--split or --scene must be given"),
        (
            "--traffic T --nuscenes N --version v --split s --out O --against R --draws 0",
            "--draws must be at least 1 with --against; got 0",
        ),
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
