"""``bevstack export`` writes every format, and refuses wrong input in one sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from bevstack.cli import export
from bevstack.cli.main import main
from bevstack.export.messages import definitions, store
from bevstack.export.planning import autoware_lights
from tests.export.result_files import OTHER_SCENE, SCENE, VERSION, write_cues, write_results
from tests.tables.tiny_root import write_tiny_root

EXTRAS = {
    "autoware": "mcap_ros2",
    "vision_msgs": "mcap_ros2",
    "osi": "osi3",
}
NAMES = {
    "nuscenes": ("tracks.json",),
    "openlabel": ("drive.json",),
    "autoware": ("drive.mcap",),
    "vision_msgs": ("drive.mcap",),
    "osi": ("drive.osi", "drive.osi.extension.json"),
    "apollo": ("drive",),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_root(tmp_path_factory.mktemp("root"))


def arguments(root: Path, results: Path, *options: str) -> list[str]:
    data = ("--nuscenes", str(root), "--version", VERSION)
    return ["export", "--results", str(results), *data, *options]


def test_the_choices_are_those_of_the_writers() -> None:
    assert export.DISTROS == store.DISTROS
    assert export.AUTOWARE_VERSIONS == definitions.AUTOWARE_VERSIONS
    assert export.LIGHT_IDS == autoware_lights.MAP_IDS
    assert set(NAMES) == set(export.FORMATS)


@pytest.mark.parametrize("name", export.FORMATS)
@pytest.mark.parametrize("options", [(), ("--track",)])
def test_every_format_is_written_twice_with_equal_bytes(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    options: tuple[str, ...],
) -> None:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason=f"needs {EXTRAS[name]}")
    results = write_results(tmp_path / "results.json", tracks=False)
    cues = write_cues(tmp_path / "cues.json")
    written = []
    for folder in ("first", "second"):
        out = tmp_path / folder
        out.mkdir()
        command = arguments(root, results, "--cues", str(cues), "--format", name, *options)
        assert main([*command, "--out", str(out / NAMES[name][0])]) == 0
        assert sorted(path.name for path in out.iterdir()) == sorted(NAMES[name])
        files = sorted(path for path in out.rglob("*") if path.is_file())
        written.append([path.read_bytes() for path in files])
    assert written[0] == written[1] and all(written[0])
    kind = "tracked boxes" if options else "detections"
    assert f" {kind} in 4 frames: " in capsys.readouterr().out


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """Let the system refuse files of over 200 bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("name", "file", "options"),
    [
        ("nuscenes", "tracks.json", ()),
        ("openlabel", "drive.json", ()),
        ("autoware", "drive.mcap", ()),
        ("vision_msgs", "bag.bag", ("--distro", "noetic")),  # the scratch file of drive.bag
        ("osi", "drive.osi", ()),
        ("apollo", "drive/obstacles_000000.pb.txt", ()),
    ],
)
def test_a_failing_write_names_the_file_and_leaves_none(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    file: str,
    options: tuple[str, ...],
) -> None:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason=f"needs {EXTRAS[name]}")
    results = write_results(tmp_path / "results.json", tracks=False)
    out = tmp_path / "out"
    out.mkdir()
    target = "drive.bag" if name == "vision_msgs" else NAMES[name][0]
    command = arguments(root, results, "--format", name, *options, "--out", str(out / target))
    with small_files():
        assert main(command) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert os.strerror(errno.EFBIG) in error and f"/{file} must" in error
    assert ".part/" not in error or ".scratch." in error
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "osi", "--out", "a.bin"), "OSI trace must end in .osi; got a.bin"),
        (("--format", "autoware", "--out", "a.bag"), "bag of humble must end in .mcap"),
        (
            ("--format", "autoware", "--distro", "noetic", "--out", "a.bag"),
            "distro must be one of ROS 2 for Autoware",
        ),
        (
            ("--format", "autoware", "--hazards", "--out", "a.mcap"),
            "autoware must be 'newest' for the label HAZARD",
        ),
        (
            ("--format", "apollo", "--distro", "humble", "--out", "a"),
            "--distro must be given with --format autoware or vision_msgs; got apollo",
        ),
        (
            ("--format", "openlabel", "--hazards", "--out", "a.json"),
            "--hazards must be given with --format autoware; got openlabel",
        ),
        (
            ("--format", "osi", "--rear-axle-height", "33", "--out", "a.osi"),
            "rear_axle_height_m must be from 0 to 2 metres; got 33",
        ),
        (("--format", "apollo", "--scene", "scene-1", "--out", "a"), "the nearest names: "),
        (("--format", "apollo", "--cues", "none.json", "--out", "a"), "none.json"),
    ],
)
def test_wrong_input_is_one_sentence(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    if {"osi", "autoware"} & set(options):
        pytest.importorskip("osi3", reason="needs osi-python")
        pytest.importorskip("rosbags", reason="needs rosbags")
    monkeypatch.chdir(tmp_path)
    results = write_results(tmp_path / "results.json", tracks=False)
    assert main(arguments(root, results, *options)) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json"]


def test_a_format_of_one_drive_wants_one_scene(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = write_results(tmp_path / "r.json", tracks=True, scenes=(SCENE, OTHER_SCENE))
    command = arguments(root, results, "--format", "openlabel", "--out", str(tmp_path / "o.json"))
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "--scene must be given for --format openlabel, which holds one scene" in error
    assert f"{SCENE}, {OTHER_SCENE}" in error
    assert main([*command, "--scene", OTHER_SCENE]) == 0
    out = str(tmp_path / "both.json")
    assert main(arguments(root, results, "--format", "nuscenes", "--out", out)) == 0
    assert "14 tracked boxes in 7 frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("osi", "osi3", "export"), ("autoware", "rosbags", "ros")]
)
def test_a_missing_library_is_named_with_its_extra(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    module: str,
    extra: str,
) -> None:
    class Absent:
        def find_spec(self, full_name: str, *_: object) -> None:
            if full_name.partition(".")[0] == module:
                raise ModuleNotFoundError(f"No module named {full_name!r}", name=full_name)

    import sys

    for loaded in [n for n in sys.modules if n.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    results = write_results(tmp_path / "r.json", tracks=True)
    out = str(tmp_path / NAMES[name][0])
    assert main(arguments(root, results, "--format", name, "--out", out)) == 2
    assert f"pip install 'bevstack[{extra}]'" in capsys.readouterr().err
