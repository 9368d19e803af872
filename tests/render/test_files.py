"""Atomic writing of pictures."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.render import write_picture


def picture() -> np.ndarray:
    image = np.zeros((20, 30, 3), np.uint8)
    image[5:15, 5:25] = (250, 100, 20)
    return image


def test_colours_are_written_as_rgb(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "new" / "a.png", picture())
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], picture())
    path = write_picture(tmp_path / "a.jpg", picture())
    assert np.abs(cv2.imread(str(path))[..., ::-1].astype(int) - picture())[10, 15].max() < 20


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.jpeg"])
def test_same_pixels_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    first = write_picture(tmp_path / "1" / name, picture()).read_bytes()
    assert write_picture(tmp_path / "2" / name, picture()).read_bytes() == first


def test_full_disk_leaves_the_old_picture_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_picture(tmp_path / "a.png", picture())
    before = path.read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.png"):
        write_picture(path, picture() // 2)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"file/a\.png") as caught:
        write_picture(tmp_path / "file" / "a.png", picture())
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    match = r"the picture's name must end with one of \.png.*; got a\.gif"
    with pytest.raises(ValueError, match=match):
        write_picture(tmp_path / "a.gif", picture())
