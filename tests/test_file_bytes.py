"""Reading of whole files: what is no file of a bounded size is refused in one sentence."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from bevstack import file_bytes
from bevstack.file_bytes import read_bytes


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "empty").touch()
    assert read_bytes(tmp_path / "link", "thing", max_bytes=5) == b"12345"
    assert read_bytes(str(tmp_path / "a"), "thing", max_bytes=None) == b"12345"
    assert read_bytes(tmp_path / "empty", "thing") == b""
    with pytest.raises(ValueError, match=r"^thing must have at most 4 bytes; got 5 in .*a$"):
        read_bytes(tmp_path / "a", "thing", max_bytes=4)


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for path in (tmp_path / "none", tmp_path / "a" / "below_a_file"):
        with pytest.raises(FileNotFoundError, match=rf"^thing must exist; got no file {path}: .*"):
            read_bytes(path, "thing")
    with pytest.raises(FileNotFoundError, match=r"none: make it$"):
        read_bytes(tmp_path / "none", "thing", remedy="make it")


def test_devices_pipes_folders_and_broken_paths_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    os.symlink("/dev/zero", tmp_path / "zero")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "socket"))
    kinds = {
        "pipe": "a pipe or socket",
        "loop": "Too many levels of symbolic links",
        "zero": "a device",
        "socket": "No such device",
        "x" * 300: "File name too long",
        ".": "a folder",
        "a\0b": r"a\x00b",
    }
    for name, kind in kinds.items():
        path = f"{tmp_path}/{name}"
        with pytest.raises(ValueError, match=r"image must be .*file; got") as caught:
            read_bytes(path, "image", max_bytes=1000)
        assert kind in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("call", ["fstat", "close"])
def test_an_error_after_the_opening_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "a").write_bytes(b"12")
    real = getattr(os, call)

    def fail(descriptor: int) -> None:
        real(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched, pytest.raises(OSError) as caught:
        patched.setattr(os, call, fail)
        read_bytes(tmp_path / "a", "thing")
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(tmp_path / "a"))


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match="a folder"):
        read_bytes(tmp_path, "thing")
    (tmp_path / "a").write_bytes(b"1")
    assert read_bytes(tmp_path / "a", "thing") == b"1"
    assert len(os.listdir("/proc/self/fd")) == before


class StatOfSize:
    """The state of a regular file, with another size."""

    def __init__(self, path: Path, size: int) -> None:
        self.st_mode, self.st_size = path.stat().st_mode, size


def test_a_file_that_grows_is_read_as_it_was_and_one_that_shrinks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"line\nmore\n")
    monkeypatch.setattr(file_bytes.os, "fstat", lambda _: StatOfSize(path, 5))
    assert read_bytes(path, "log") == b"line\n"  # the rest was written after it was opened
    monkeypatch.setattr(file_bytes.os, "fstat", lambda _: StatOfSize(path, 11))
    with pytest.raises(ValueError, match=r"log must not change while it is read; got .*, which"):
        read_bytes(path, "log")
