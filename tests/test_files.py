from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bevstack.file_names import path_inside, safe_name
from bevstack.files import (
    naming,
    remove_leftovers,
    replacing,
    replacing_folder,
    scratch_folder,
    write_atomically,
    write_text_atomically,
)


def test_text_and_its_chunks_are_written_and_folders_created(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a/b/whole.txt", "äöü\n")
    write_text_atomically(str(tmp_path / "a/b/chunks.txt"), iter(["ä", "ö", "ü\n"]))
    assert (tmp_path / "a/b/whole.txt").read_text(encoding="utf-8") == "äöü\n"
    assert (tmp_path / "a/b/chunks.txt").read_bytes() == (tmp_path / "a/b/whole.txt").read_bytes()


def test_an_interruption_leaves_only_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text_atomically(path, "old")

    def interrupted() -> Iterator[str]:
        yield "new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_text_atomically(path, interrupted())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_names_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        write_text_atomically(tmp_path / "file/results.json", "x")
    assert caught.value.filename == str(tmp_path / "file/results.json")


def test_the_error_of_a_full_disk_has_its_number_and_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError) as caught:
        write_text_atomically(tmp_path / "a.txt", "x")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a.txt"))
    assert os.listdir(tmp_path) == []


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """Let the system refuse files of over 10,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [10_001, 50_000])  # refused at the flush, or at the write
def test_an_error_of_a_write_names_the_final_path(tmp_path: Path, size: int) -> None:
    with pytest.raises(OSError) as caught, small_files(), replacing(tmp_path / "a") as file:
        file.write(b"1" * (size - 2000))
        file.write(b"2" * 2000)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "a"))
    with (
        pytest.raises(OSError) as caught,
        small_files(),
        replacing_folder(tmp_path / "b") as part,
        naming(part / "c" / "d"),
    ):
        (part / "c").mkdir()
        (part / "c" / "d").write_bytes(b"1" * size)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "b/c/d"))
    assert os.listdir(tmp_path) == []


def test_an_error_of_another_file_names_that_file(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"1"
        yield (tmp_path / "missing").read_bytes()

    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "a", chunks())
    assert caught.value.filename == str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError) as caught, replacing_folder(tmp_path / "b") as part:
        (tmp_path / "missing").read_bytes()
    assert caught.value.filename == str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError) as caught, replacing_folder(tmp_path / "b") as part:
        (part / "missing").read_bytes()
    assert caught.value.filename == str(tmp_path / "b" / "missing")


def test_permissions_equal_those_of_ordinary_files(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def _killed(write: Callable[[], None]) -> None:
    """Run a function in a child process that is killed before the function returns."""
    child = os.fork()
    if child == 0:
        try:
            write()
        finally:
            os._exit(1)  # never back into pytest
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_kill_left_is_removed_by_the_next_process_that_writes_there(tmp_path: Path) -> None:
    def file() -> None:
        with replacing(tmp_path / "results.json") as opened:
            opened.write(b"half")
            opened.flush()
            _die()

    def folder() -> None:
        with replacing_folder(tmp_path / "world") as part:
            (part / "samples").mkdir()
            (part / "samples/a.jpg").write_bytes(b"x")
            _die()

    for kill in (file, folder):
        _killed(kill)
        (left,) = os.listdir(tmp_path)  # the folder's process removed the file of the first
        assert left.startswith(".")
    write_text_atomically(tmp_path / "another.txt", "x")
    assert os.listdir(tmp_path) == ["another.txt"]
    _killed(file)
    with replacing_folder(tmp_path / "world") as part:
        (part / "tables").mkdir()
    assert sorted(os.listdir(tmp_path)) == ["another.txt", "world"]
    assert os.listdir(tmp_path / "world") == ["tables"]


def test_scratch_of_a_killed_process_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def killed() -> None:
        with scratch_folder() as folder:
            (folder / "columns").write_bytes(b"x")
            _die()

    _killed(killed)
    assert len(os.listdir(tmp_path)) == 1
    with scratch_folder() as folder:
        assert os.listdir(tmp_path) == [folder.name]
        assert folder.stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path) == []


def test_files_of_running_processes_and_of_users_are_no_leftovers(tmp_path: Path) -> None:
    names = [
        ".results.json.a1b2c3d4",
        ".results.json.part",
        "results.json.bevstack-0123456789abcdef.part",
        ".bevstack-0123456789abcdef.part.json",
    ]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / "target").write_text("mine")
    (tmp_path / ".link.bevstack-0123456789abcdef.part").symlink_to(tmp_path / "target")
    with replacing(tmp_path / "a"), replacing_folder(tmp_path / "b"):
        before = sorted(os.listdir(tmp_path))
        assert len(before) == len(names) + 4
        remove_leftovers(tmp_path)
        assert sorted(os.listdir(tmp_path)) == before
    kept = {*names, "target", ".link.bevstack-0123456789abcdef.part", "a", "b"}
    assert set(os.listdir(tmp_path)) == kept
    remove_leftovers(tmp_path / "missing")


def test_a_temporary_file_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_text("old")
    tokens = iter(["0" * 16, "1" * 16])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(tokens))
    (tmp_path / f".a.txt.bevstack-{'0' * 16}.part").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        write_text_atomically(tmp_path / "a.txt", "new")
    write_text_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "victim").read_text() == "old"


def test_an_error_in_a_new_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "x/world") as part:
        (part / "a").write_text("a")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path / "x") == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    with pytest.raises(OSError), replacing_folder(tmp_path / "full"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["full", "x"]


@pytest.mark.parametrize("name", ["scene-0103", "a_b", "Scene 7", "züge", "x.y", "a+b=c@d"])
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert safe_name(name) == name


HOSTILE = [
    *("../../planted", "/etc/passwd", "..", ".", "", " ", ".hidden", "a/b", "a\\b", "C:\\x"),
    *("a\0b", "a\nb", "x" * 5000, "ü" * 300, "\ud800", "a*?", "-" * 200, "nul.", "~root", "$HOME"),
]


def test_a_hostile_name_becomes_one_file_beside_its_neighbours(tmp_path: Path) -> None:
    made = [safe_name(name) for name in HOSTILE]
    assert len(set(made)) == len(HOSTILE)
    for name in made:
        assert name == Path(name).name and not name.startswith(".")
        write_text_atomically(tmp_path / f"{name}.json", name)
    assert len(os.listdir(tmp_path)) == len(HOSTILE)


@pytest.mark.parametrize("name", ["a.jpg", "samples/CAM_FRONT/x.jpg", "./samples/a b.jpg", "...a"])
def test_a_name_below_the_root_is_accepted(tmp_path: Path, name: str) -> None:
    assert path_inside(tmp_path, name) == tmp_path / name


OUTSIDE = [
    *("/dev/zero", "../x.jpg", "samples/../../x", "samples/..", "..", "\\\\server\\x", "..\\x"),
    *("C:\\x.jpg", "samples\\..\\..\\x", "\\x"),
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_the_root_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"image must lie inside .*; got '.*--allow-outside"):
        path_inside(tmp_path, name, what="image")
    assert path_inside(tmp_path, name, allow_outside=True) == tmp_path / name


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "\ud800.jpg", "x" * 300, "d/" * 2500 + "x"])
@pytest.mark.parametrize("allow_outside", [False, True])
def test_a_name_that_no_file_can_have_is_refused(
    tmp_path: Path, name: str, allow_outside: bool
) -> None:
    with pytest.raises(ValueError, match=r"^image must (be the name|have at most 255)") as caught:
        path_inside(tmp_path, name, what="image", allow_outside=allow_outside)
    assert len(str(caught.value)) < 500


def test_a_full_folder_is_replaced_on_request_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with replacing_folder(tmp_path / "drive", replaces_full=name == "b") as part:
            (part / name).write_bytes(b"1")
    assert os.listdir(tmp_path) == ["drive"] and os.listdir(tmp_path / "drive") == ["b"]
    with pytest.raises(OSError) as caught, replacing_folder(tmp_path / "drive") as part:
        (part / "c").write_bytes(b"1")
    assert caught.value.filename == str(tmp_path / "drive")
    assert os.listdir(tmp_path) == ["drive"] and os.listdir(tmp_path / "drive") == ["b"]


def test_a_scratch_folder_that_cannot_be_removed_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("bevstack.files.shutil.rmtree", fail)
        with scratch_folder() as folder:
            pass
        assert folder.is_dir()
    remove_leftovers(folder.parent)  # as the next process does
    assert not folder.exists()
    with monkeypatch.context() as patch, scratch_folder() as folder:
        patch.setattr("bevstack.files.shutil.rmtree", lambda path, **_: os.rmdir(path))
        patch.setattr("bevstack.files.os.close", fail)
    assert not folder.exists()
