from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bevstack.files import write_text_atomically


def test_text_or_its_pieces_are_written_and_folders_made(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a/b/whole.txt", "äöü\n")
    write_text_atomically(str(tmp_path / "a/b/pieces.txt"), iter(["ä", "ö", "ü\n"]))
    assert (tmp_path / "a/b/whole.txt").read_text(encoding="utf-8") == "äöü\n"
    assert (tmp_path / "a/b/pieces.txt").read_bytes() == (tmp_path / "a/b/whole.txt").read_bytes()


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text_atomically(path, "old")

    def interrupted() -> Iterator[str]:
        yield "new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_text_atomically(path, interrupted())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_where_a_folder_is_wanted_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        write_text_atomically(tmp_path / "file/results.json", "x")
    assert caught.value.filename == str(tmp_path / "file/results.json")


def test_a_full_disk_is_told_by_its_number_and_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError) as caught:
        write_text_atomically(tmp_path / "a.txt", "x")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a.txt"))
    assert os.listdir(tmp_path) == []


def test_permissions_are_those_of_ordinary_files(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
