"""``bevstack make-bag`` writes a drive, and refuses wrong input in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="needs rosbags: pip install 'bevstack[ros]'")

from bevstack.cli import make_bag
from bevstack.cli.main import main
from bevstack.export.messages import store
from tests.tables.tiny_root import VERSION, write_tiny_root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_root(tmp_path_factory.mktemp("root"))


def test_the_choices_are_those_of_the_store() -> None:
    assert make_bag.ROS1_DISTROS == store.ROS1_DISTROS
    assert make_bag.ROS2_DISTROS == store.ROS2_DISTROS


def test_numbers_are_printed(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "drive.mcap"
    options = ("--nuscenes", str(root), "--scene", "scene-0916", "--out", str(out))
    assert main(["make-bag", *options]) == 0
    # 1 of static transforms, 2 for each of 15 readings of a sensor, 2 for each of 12 pictures
    line = f"scene-0916: 55 messages, 12 pictures of 4 cameras at 2.0 Hz: {out}\n"
    assert capsys.readouterr().out == line and out.stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "a.mcap"), "--scene must be given; got a data set of 2 scenes: scene-0103, "),
        (("--scene", "scene-1", "--out", "a.mcap"), "scene must be one of the 2 scenes"),
        (("--out", "a.bag", "--distro", "humble"), "bag of humble must end in .mcap or .db3; "),
        (("--out", "a.mcap", "--distro", "noetic"), "bag of noetic must end in .bag; got a.mcap"),
        (("--version", "v1.0-test", "--out", "a.db3"), "version must be a folder of tables"),
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
    monkeypatch.chdir(tmp_path)
    assert main(["make-bag", "--nuscenes", str(root), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_root_of_several_versions_needs_one(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(root, tmp_path / "root")
    shutil.copytree(copied / VERSION, copied / "v1.0-other")
    assert main(["make-bag", "--nuscenes", str(copied), "--out", str(tmp_path / "a.mcap")]) == 2
    assert "--version must be given; got a root with v1.0-mini, v1.0-other" in (
        capsys.readouterr().err
    )
