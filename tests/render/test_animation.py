"""Animations: one frame a picture, close colours, and atomic writing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bevstack.render import write_animation
from bevstack.render.colors import BACKGROUND, CLASS_COLORS, WHITE


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Return pictures of a colour ramp with a square of each class's colour and a moving bar."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, 150)[None, :, None] * random.uniform(0.4, 1.0, 3)
    background = np.broadcast_to(ramp, (60, 150, 3)).astype(np.uint8).copy()
    for index, color in enumerate(CLASS_COLORS.values()):
        background[5:13, 12 * index : 12 * index + 8] = color
    drawn = [background.copy() for _ in range(count)]
    for index, picture in enumerate(drawn):
        picture[30:40] = BACKGROUND
        picture[30:40, 9 * index : 9 * index + 6] = WHITE
    return drawn


def read_frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as film:
        frames = []
        for index in range(film.n_frames):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB")).copy())
    return frames


def test_every_picture_comes_back_as_a_frame(tmp_path: Path) -> None:
    wanted = pictures(7)
    path = write_animation(tmp_path / "new" / "film.gif", wanted, seconds_each=0.25)
    frames = read_frames(path)
    assert len(frames) == 7
    for picture, frame in zip(wanted, frames, strict=True):
        assert frame.shape == picture.shape
        assert np.abs(frame.astype(int) - picture).mean() < 3  # 240 colours for a ramp of 150


def test_webp_has_all_frames_repeats_and_is_smaller(tmp_path: Path) -> None:
    wanted = pictures(7)
    path = write_animation(tmp_path / "film.webp", wanted, seconds_each=0.25)
    with Image.open(path) as film:
        assert film.n_frames == 7 and film.info["loop"] == 0
        for number in range(7):
            film.seek(number)
            film.load()
            assert film.info["duration"] == 250
    for picture, frame in zip(wanted, read_frames(path), strict=True):
        assert np.abs(frame.astype(int) - picture).mean() < 4  # compressed with losses
    gif = write_animation(tmp_path / "film.gif", wanted, seconds_each=0.25)
    assert path.stat().st_size < gif.stat().st_size
    again = write_animation(tmp_path / "again.webp", wanted, seconds_each=0.25)
    assert again.read_bytes() == path.read_bytes()


def test_the_drawing_s_own_colours_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    wanted = pictures(2)
    _, frame = read_frames(write_animation(tmp_path / "film.gif", wanted, seconds_each=0.25))
    for index in range(len(CLASS_COLORS)):
        square = np.s_[5:13, 12 * index : 12 * index + 8]
        np.testing.assert_array_equal(frame[square], wanted[1][square])
    np.testing.assert_array_equal(frame[30:40], wanted[1][30:40])


def test_static_parts_do_not_flicker(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "a.gif", pictures(5), seconds_each=0.1)
    first, *remaining = read_frames(path)
    for frame in remaining:
        np.testing.assert_array_equal(frame[40:], first[40:])


def test_animation_repeats_at_the_requested_speed(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "film.gif", pictures(3), seconds_each=0.25)
    with Image.open(path) as film:
        assert film.info["duration"] == 250 and film.info["loop"] == 0


def test_picture_shown_twice_is_shown_for_longer(tmp_path: Path) -> None:
    first, second = pictures(2)
    path = write_animation(tmp_path / "film.gif", [first, first, second], seconds_each=0.25)
    with Image.open(path) as film:
        assert film.n_frames == 2 and film.info["duration"] == 500


def test_one_picture_is_an_animation_too(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "film.gif", pictures(1), seconds_each=0.25)
    assert len(read_frames(path)) == 1


def test_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (
        write_animation(tmp_path / name, pictures(3), seconds_each=0.2).read_bytes()
        for name in ("a.gif", "b.gif")
    )
    assert first == second


def test_full_disk_leaves_the_old_animation_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_animation(tmp_path / "film.gif", pictures(2), seconds_each=0.25)
    before = path.read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=r"No space left on device: .*film\.gif"):
        write_animation(path, pictures(2, seed=1), seconds_each=0.25)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["film.gif"]


def test_wrong_name_pictures_or_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"the animation's name must end with \.gif or \.webp; got film\.mp4"
    ):
        write_animation(tmp_path / "film.mp4", pictures(2), seconds_each=0.25)
    with pytest.raises(ValueError, match="pictures must be one or more of one size; got sizes"):
        write_animation(tmp_path / "film.gif", [], seconds_each=0.25)
    with pytest.raises(ValueError, match="pictures must be one or more of one size; got sizes"):
        mixed = [pictures(1)[0], pictures(1)[0][1:]]
        write_animation(tmp_path / "film.gif", mixed, seconds_each=0.25)
    with pytest.raises(ValueError, match=r"seconds_each must be at least 0\.02"):
        write_animation(tmp_path / "film.gif", pictures(2), seconds_each=0.001)
