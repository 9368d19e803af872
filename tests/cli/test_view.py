"""The verb ``view``: its options, its errors, its address, and the end of its server."""

from __future__ import annotations

import re
import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from bevstack.cli.main import build_parser, main
from bevstack.cli.view_options import command_line, first_state, recorded_source
from bevstack.viewer.recorded import RecordedDrives
from bevstack.viewer.view_state import Eye
from tests.viewer.processes import ending, listening_addresses, running_viewer
from tests.viewer.worlds import VERSION, viewer_world, write_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return viewer_world(tmp_path_factory)


def words(folder: Path, *rest: str) -> list[str]:
    return ["view", "--nuscenes", str(folder / "world"), "--version", VERSION, *rest]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    return sentence


def test_a_command_line_brings_the_view_back(folder: Path) -> None:
    results = ("--results", str(folder / "model.json"), "--against", str(folder / "other.json"))
    parser = build_parser()
    args = parser.parse_args(words(folder, *results))
    source = RecordedDrives(recorded_source(args))
    state = first_state(args, source)
    assert (state.color_by, state.index, state.scene) == ("model", 0, source.scenes[0])
    shown = parser.parse_args(
        words(
            folder,
            *(*results, "--scene", source.scenes[1], "--frame", "3", "--min-score", "0.35"),
            *("--color-by", "error", "--match-within", "4", "--camera=-9,1.5,4,0,0,0"),
        )
    )
    wanted = first_state(shown, source)
    assert wanted.eye == Eye(position_m=(-9, 1.5, 4), look_at_m=(0, 0, 0))
    line = command_line(args, wanted, wanted.eye)
    again = parser.parse_args(line.split()[1:])
    assert first_state(again, source) == wanted
    assert recorded_source(again) == recorded_source(args)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (("--frame", "9"), r"--frame must be from 0 to 3, the last of scene-\d+; got 9"),
        (("--scene", "scene-1"), r"--scene must be one of scene-\d+, scene-\d+; got scene-1"),
        (("--against", "b.json"), "--results FILE must be given with --against"),
        (("--port", "70000"), "--port must be from 0 to 65535; got 70000"),
        (("--save", "a.png", "--window"), "--save and --window must not be given together"),
        (("--save", "a.png", "--record", "a.rrd"), "--save and --record must not be given toget"),
        (("--record", "a.mcap"), r"the node writes MCAP, `bevstack node --bag DRIVE.mcap --out"),
        (("--record", "a.txt"), "--record must be a name that ends with .rrd; got a.txt"),
        (("--save", "a.png", "--size", "9", "9"), "--size must be from 64 to 8192 pixels"),
        (("--results", "none.json"), "none.json"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    rest: tuple[str, ...], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(message, refused(words(folder, *rest), capsys))


def test_a_window_without_a_display_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "--window must have a display" in refused(words(folder, "--window"), capsys)


def test_results_of_other_samples_and_too_many_boxes_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign.json"
    write_results(foreign, {"0" * 32: []})
    sentence = refused(words(folder, "--results", str(foreign)), capsys)
    assert "must hold samples of" in sentence and "got none" in sentence


def test_pictures_are_saved_with_opencv(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "view.png"
    rest = ("--results", str(folder / "model.json"), "--save", str(out), "--renderer", "opencv")
    assert main(words(folder, *rest, "--size", "320", "160")) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert Image.open(out).size[0] == 332


def test_a_port_in_use_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("viser")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sentence = refused(words(folder, "--port", str(port)), capsys)
    assert f"port must be free; got {port}, which is in use" in sentence


def test_a_host_that_is_not_of_this_machine_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("viser")
    sentence = refused(words(folder, "--host", "192.0.2.1", "--port", "0"), capsys)
    assert "host must be an address of this machine; got 192.0.2.1" in sentence


def test_another_host_is_a_warning(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("viser")
    from bevstack.viewer.browser.viewer import Viewer

    monkeypatch.setattr(Viewer, "wait", lambda self: None)
    assert main(words(folder, "--port", "0", "--host", "0.0.0.0")) == 0
    printed = capsys.readouterr()
    assert re.fullmatch(r"http://0\.0\.0\.0:\d+\n", printed.out)
    assert "warning: listens on 0.0.0.0: every machine that reaches it sees the" in printed.err
    assert main(words(folder, "--port", "0")) == 0
    assert "warning" not in capsys.readouterr().err


def test_colours_of_what_is_not_there_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = refused(words(folder, "--color-by", "error"), capsys)
    assert "--color-by error must have results and true boxes; got none" in sentence
    results = ("--results", str(folder / "model.json"), "--color-by", "model")
    assert "must have results of two models" in refused(words(folder, *results), capsys)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_server_listens_on_loopback_alone_and_leaves_no_port_open(
    number: signal.Signals, code: int, folder: Path
) -> None:
    pytest.importorskip("viser")
    with running_viewer(words(folder)) as (process, address):
        port = int(address.rpartition(":")[2])
        with urllib.request.urlopen(address, timeout=60) as page:
            assert page.status == 200 and b"<html" in page.read(4000).lower()
        assert listening_addresses(port) == {"0100007F"}  # 127.0.0.1 as the kernel writes it
        end = ending(process, number)
        assert end.code in (code, -number)
        if number == signal.SIGINT:  # 0.15 s; 0.83 s if the last search for garbage is not left out
            assert end.cpu_s < 0.5
    assert process.stderr is not None
    if number == signal.SIGINT:
        assert "interrupted" in process.stderr.read()
    assert not listening_addresses(port)
