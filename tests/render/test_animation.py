"""Animations: every picture a frame, colours close to the pictures', whole or not at all."""

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
    """A smooth ground with a square of each class's colour, and a bar that moves."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, 150)[None, :, None] * random.uniform(0.4, 1.0, 3)
    ground = np.broadcast_to(ramp, (60, 150, 3)).astype(np.uint8).copy()
    for place, color in enumerate(CLASS_COLORS.values()):
        ground[5:13, 12 * place : 12 * place + 8] = color
    shown = [ground.copy() for _ in range(count)]
    for place, picture in enumerate(shown):
        picture[30:40] = BACKGROUND
        picture[30:40, 9 * place : 9 * place + 6] = WHITE
    return shown


def frames_of(path: Path) -> list[np.ndarray]:
    with Image.open(path) as film:
        found = []
        for place in range(film.n_frames):
            film.seek(place)
            found.append(np.asarray(film.convert("RGB")).copy())
    return found


def test_every_picture_comes_back_as_a_frame(tmp_path: Path) -> None:
    wanted = pictures(7)
    path = write_animation(tmp_path / "new" / "film.gif", wanted, seconds_each=0.25)
    found = frames_of(path)
    assert len(found) == 7
    for picture, frame in zip(wanted, found, strict=True):
        assert frame.shape == picture.shape
        assert np.abs(frame.astype(int) - picture).mean() < 3  # 240 colours for a ramp of 150


def test_the_drawing_s_own_colours_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    wanted = pictures(2)
    _, frame = frames_of(write_animation(tmp_path / "film.gif", wanted, seconds_each=0.25))
    for place in range(len(CLASS_COLORS)):
        square = np.s_[5:13, 12 * place : 12 * place + 8]
        np.testing.assert_array_equal(frame[square], wanted[1][square])
    np.testing.assert_array_equal(frame[30:40], wanted[1][30:40])


def test_what_stands_still_does_not_flicker(tmp_path: Path) -> None:
    first, *others = frames_of(write_animation(tmp_path / "a.gif", pictures(5), seconds_each=0.1))
    for frame in others:
        np.testing.assert_array_equal(frame[40:], first[40:])


def test_it_runs_in_a_loop_at_the_speed_asked_for(tmp_path: Path) -> None:
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
    assert len(frames_of(path)) == 1


def test_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (
        write_animation(tmp_path / name, pictures(3), seconds_each=0.2).read_bytes()
        for name in ("a.gif", "b.gif")
    )
    assert first == second


def test_full_disk_leaves_the_old_animation_whole(
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


def test_what_is_no_animation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"animation must end with \.gif; got film\.mp4"):
        write_animation(tmp_path / "film.mp4", pictures(2), seconds_each=0.25)
    with pytest.raises(ValueError, match="pictures must be one or more of one size; got sizes"):
        write_animation(tmp_path / "film.gif", [], seconds_each=0.25)
    with pytest.raises(ValueError, match="pictures must be one or more of one size; got sizes"):
        mixed = [pictures(1)[0], pictures(1)[0][1:]]
        write_animation(tmp_path / "film.gif", mixed, seconds_each=0.25)
    with pytest.raises(ValueError, match=r"seconds_each must be at least 0\.02"):
        write_animation(tmp_path / "film.gif", pictures(2), seconds_each=0.001)
