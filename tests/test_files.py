from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bevstack.files import write_text_atomically


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


def test_permissions_equal_those_of_ordinary_files(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
