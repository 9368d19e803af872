"""``bevstack view`` with a model that runs over a folder of frames, and its end."""

from __future__ import annotations

import dataclasses
import json
import signal
import socket
import time
from pathlib import Path

import cv2
import pytest

from bevstack.cli.main import build_parser, main
from bevstack.cli.view_live_options import inference_options
from bevstack.cli.view_options import command_line, first_state
from bevstack.models.build import save_model
from bevstack.runtime.detector import build
from bevstack.viewer.growing import GrowingDrive
from tests.cli.test_view import refused
from tests.runtime.drives import export_scene, read_table
from tests.runtime.test_streaming import temporal
from tests.small_world import dataset, small_world
from tests.viewer.moments import boxes, moment
from tests.viewer.processes import ending, listening_addresses, running_viewer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``drive`` and ``small.safetensors``."""
    folder = tmp_path_factory.mktemp("live")
    data = dataset(small_world(tmp_path_factory), "synth_val")
    export_scene(data, data.scene_names[0], folder / "drive")
    detector = build(temporal())
    save_model(folder / "small.safetensors", detector.model, detector.config)
    return folder


def words(folder: Path, *rest: str) -> list[str]:
    drive = folder / "drive"
    given = ("--rig", str(drive / "rig.json"), "--images", str(drive))
    return ["view", *given, "--weights", str(folder / "small.safetensors"), *rest]


def test_a_command_line_names_the_same_frames_and_detector(folder: Path) -> None:
    parser = build_parser()
    rest = ("--lost", "CAM_BACK", "--interval", "0.5", "--track", "--device", "cpu", "--frame", "1")
    args = parser.parse_args(words(folder, *rest))
    drive = GrowingDrive()
    for index in range(2):
        drive.add(dataclasses.replace(moment(boxes((8.0, 1.0, 0.2))), index=index))
    state = first_state(args, drive)
    assert state.index == 1 and first_state(parser.parse_args(words(folder)), drive).index == 0
    line = command_line(args, state, state.eye)
    again = parser.parse_args(line.split()[1:])
    assert inference_options(again) == inference_options(args)
    assert first_state(again, drive) == state


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (
            ("--nuscenes", "root"),
            "must be given; got --nuscenes ROOT and --rig FILE",
        ),
        (("--results", "r.json"), "--results must be given with --nuscenes; got --rig"),
        (("--track", "--no-history"), "--track and --no-history must not be given together"),
        (("--keep", "1"), "--keep must be from 2 to 1000000 frames; got 1"),
        (("--lost", "CAM_TOP"), "lost camera must be one of CAM_FRONT"),
        (("--images", "none"), "none"),
        (("--weights", "none"), "none"),
        (("--record", "a.mcap"), "the node writes MCAP, `bevstack node"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    rest: tuple[str, ...], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("viser")
    assert main(words(folder, "--port", "0", *rest)) == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in sentence and "error" in sentence


def test_a_source_is_needed_and_its_own_options(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "must be given; got none" in refused(["view"], capsys)
    drive = str(folder / "drive")
    assert "--weights FILE must be given with --rig" in refused(
        ["view", "--rig", f"{drive}/rig.json", "--images", drive], capsys
    )
    data = ["view", "--nuscenes", drive, "--version", "v1.0-mini"]
    assert "--track must be given with --rig" in refused([*data, "--track"], capsys)


def test_a_folder_without_frames_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("viser")
    rest = ("--images", str(tmp_path), "--port", "0")
    assert "must hold a folder a camera, a folder a frame, or" in refused(
        words(folder, *rest), capsys
    )


def test_a_port_in_use_is_refused_before_the_model_runs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("viser")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sentence = refused(words(folder, "--port", str(port)), capsys)
    assert f"port must be free; got {port}, which is in use" in sentence


def test_pictures_of_all_frames_are_saved(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ("--save", str(tmp_path / "out"), "--renderer", "opencv", "--size", "320", "160")
    assert main(words(folder, *rest)) == 0
    names = [Path(line).name for line in capsys.readouterr().out.split()]
    assert names == [f"drive_{index:03d}.png" for index in range(3)]


def test_the_timeline_grows_and_an_interrupt_ends_inference_and_server(
    folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("viser")
    long_drive(folder / "drive", tmp_path / "drive", 400)
    arguments = words(folder)
    arguments[arguments.index("--images") + 1] = str(tmp_path / "drive")
    with running_viewer(arguments) as (process, address):
        port = int(address.rpartition(":")[2])
        assert listening_addresses(port) == {"0100007F"}
        children = children_of(process.pid)
        end = ending(process, signal.SIGINT)
        assert end.code == 130
        # The goal is 2 s. It takes 0.4 s on two processors with a load of 11. A part that hangs is
        # waited for longer than 5 s.
        assert end.wall_s < 5
    assert process.stderr is not None
    assert "interrupted" in process.stderr.read()
    assert not listening_addresses(port)
    assert children
    until = time.monotonic() + 10  # multiprocessing's own helper ends after its parent
    while any(map(runs, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(runs, children))


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started, from the kernel's table."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in found for word in path.read_text().split()]


def runs(pid: int) -> bool:
    """Return True if a process has not ended; one that was not waited for has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def long_drive(source: Path, target: Path, count: int) -> None:
    """Write a drive of small frames, all with the pictures of another drive's first frame."""
    entry = read_table(source)["frames"][0]
    target.mkdir()
    for listed in entry["cameras"].values():
        (target / listed["image"]).parent.mkdir()
        picture = cv2.imread(str(source / listed["image"]))
        assert cv2.imwrite(str(target / listed["image"]), picture)
        del listed["timestamp_us"], listed["world_from_ego"]
    start = entry["timestamp_us"]
    frames = [{**entry, "timestamp_us": start + 500_000 * number} for number in range(count)]
    table = {"format": "bevstack-frames-1", "frames": frames}
    (target / "frames.json").write_text(json.dumps(table))
