"""``bevstack node`` replays a bag, and refuses wrong input in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.cli.main import main
from bevstack.models.build import save_model
from bevstack.runtime.detector import build
from tests.cli.test_make_bag import root  # noqa: F401  a fixture
from tests.export.bags import read_mcap
from tests.small_world import CONFIG


@pytest.fixture(scope="module")
def files(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:  # noqa: F811
    """Weights, and a bag of four cameras at 2 Hz."""
    folder = tmp_path_factory.mktemp("node")
    save_model(folder / "small.safetensors", build(CONFIG).model, CONFIG)
    options = ("--nuscenes", str(root), "--scene", "scene-0916")
    assert main(["make-bag", *options, "--out", str(folder / "drive.mcap")]) == 0
    return str(folder / "small.safetensors"), str(folder / "drive.mcap")


CAMERAS = "cameras=CAM_FRONT,CAM_BACK,SIDE_LEFT,SIDE_RIGHT"


def test_a_bag_is_replayed_with_parameters_of_a_file_and_of_the_command_line(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, bag = files
    (tmp_path / "node.yaml").write_text("/**: {ros__parameters: {score_threshold: 0.9999}}")
    options = ("--params", str(tmp_path / "node.yaml"), "--set", CAMERAS)
    command = ["node", "--weights", weights, "--bag", bag, "--sync", *options]
    assert main([*command, "--out", str(tmp_path / "out.mcap")]) == 0
    printed = capsys.readouterr().out
    found = read_mcap(tmp_path / "out.mcap")
    assert printed.startswith(
        "3 windows, 3 results, 0 skipped, 0 without a camera, 0 refused, 0 restarts; "
        f"{len(found)} messages: {tmp_path / 'out.mcap'}\n"
    )
    assert "bevstack: camera_SIDE_LEFT" in printed and "poses from odometry" in printed
    arrays = [m.message for m in found if m.topic == "/bevstack/detections"]
    assert len(arrays) == 3 and not any(array.detections for array in arrays)
    assert main(command) == 0 and "messages\n" in capsys.readouterr().out


def test_a_bag_is_played_at_its_own_pace(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, bag = files
    settings = ("--set", CAMERAS, "--set", "sync_timeout_ms=2000", "--set", "max_age_ms=60000")
    command = ["node", "--weights", weights, "--bag", bag, "--rate", "0.5", *settings]
    assert main([*command, "--out", str(tmp_path / "out.mcap")]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("first result at 16000000")
    counts = [int(word) for word in second.split() if word.isdigit()]
    windows, results, skipped, _, refused, _ = counts[:6]
    # Every second picture of this bag is the same: if the one between is skipped, it is frozen.
    assert windows == results + skipped + refused and results >= 1, second
    topics = {message.topic for message in read_mcap(tmp_path / "out.mcap")}
    assert {"/bevstack/objects", "/bevstack/latency/input_age_ms", "/diagnostics"} <= topics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sync", "--set", "cameras=x"), "must hold one of the topics /x/image_raw/compressed; "),
        (("--sync", "--rate", "2"), "--rate must be given without --sync; got 2"),
        (("--set", CAMERAS, "--rate", "0"), "rate must be positive and finite; got 0"),
        (("--sync", "--set", "cameras=a,a"), "parameter cameras must be distinct names"),
        (("--sync", "--set", "trak=true"), "got 'trak': did you mean track"),
        (("--sync", "--set", CAMERAS, "--out", "a.bin"), "bag of humble must end in .mcap or .db3"),
        (("--sync", "--params", "none.yaml"), "none.yaml"),
        (("--sync", "--set", CAMERAS, "--bag", "none.mcap"), "bag must exist; got no file"),
        (("--sync", "--set", CAMERAS, "--bag", "node.json"), "bag must end in .mcap, .db3, .bag"),
    ],
)
def test_wrong_input_is_one_sentence(
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    weights, bag = files
    monkeypatch.chdir(tmp_path)
    (tmp_path / "node.json").write_text(json.dumps({}))
    assert main(["node", "--weights", weights, "--bag", bag, *options]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node.json"]
