"""Damage inside image files: what decoders notice is refused, whole images are not."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bevstack.datasets import images
from bevstack.datasets.images import read_image

Damage = Callable[[bytes, random.Random], bytes]
LENGTH = 400
TRIALS = 100


def _picture(seed: int, height: int = 240, width: int = 400) -> np.ndarray:
    """Return a picture with smooth areas, edges and texture, as a camera's."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 2)
    picture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    picture[: height // 3] = (200, 190, 180)  # sky
    cv2.rectangle(picture, (width // 4, height // 2), (width // 2, height - 20), (20, 20, 160), -1)
    return np.asarray(picture)


def _overwritten(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data) // 4, 3 * len(data) // 4)
    return data[:first] + rng.randbytes(LENGTH) + data[first + LENGTH :]


def _zeroed(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data) // 4, 3 * len(data) // 4)
    return data[:first] + bytes(LENGTH) + data[first + LENGTH :]


def _filled(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data) // 4, 3 * len(data) // 4)
    return data[:first] + bytes([rng.randrange(1, 256)]) * LENGTH + data[first + LENGTH :]


def _piece_missing(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data) // 4, 3 * len(data) // 4)
    return data[:first] + data[first + rng.randrange(LENGTH, len(data) // 8) :]


def _cut_and_closed(data: bytes, rng: random.Random) -> bytes:
    end = b"\xff\xd9" if data.startswith(b"\xff\xd8") else data[-12:]
    return data[: rng.randrange(len(data) // 4, 9 * len(data) // 10)] + end


def _inserted(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data) // 4, 3 * len(data) // 4)
    return data[:first] + rng.randbytes(LENGTH) + data[first:]


DAMAGES = (_overwritten, _zeroed, _filled, _piece_missing, _cut_and_closed, _inserted)


def _taken(path: Path, sources: list[bytes], damage: Damage, trials: int = TRIALS) -> int:
    """Count the damaged copies that are read without an error; the errors name the file."""
    rng = random.Random(5)
    taken = 0
    for trial in range(trials):
        path.write_bytes(damage(sources[trial % len(sources)], rng))
        try:
            read_image(path, reduction=8)
        except ValueError as error:
            assert path.name in str(error)
            assert str(error).startswith("image must be ")
        else:
            taken += 1
    return taken


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_OPTIMIZE, 1)], ids=["usual", "optimal"])
def test_at_most_two_of_a_hundred_damaged_jpegs_are_taken(
    tmp_path: Path, options: tuple[int, ...]
) -> None:
    written = [cv2.imencode(".jpg", _picture(seed), options)[1].tobytes() for seed in range(4)]
    taken = {damage.__name__: _taken(tmp_path / "a.jpg", written, damage) for damage in DAMAGES}
    assert sum(taken.values()) <= 0.02 * TRIALS * len(DAMAGES), taken
    # OpenCV alone takes nearly all of them.
    file = np.frombuffer(_overwritten(written[0], random.Random(5)), np.uint8)
    assert cv2.imdecode(file, cv2.IMREAD_COLOR) is not None


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
def test_damage_is_refused_at_every_reduction(tmp_path: Path, options: tuple[int, ...]) -> None:
    data = cv2.imencode(".jpg", _picture(0), options)[1].tobytes()
    path = tmp_path / "a.jpg"
    path.write_bytes(_cut_and_closed(data, random.Random(0)))
    for reduction in (1, 2, 4, 8):
        with pytest.raises(ValueError, match=r"image must be undamaged; got .*a\.jpg \("):
            read_image(path, reduction=reduction)


def test_no_damaged_png_is_taken(tmp_path: Path) -> None:
    written = [cv2.imencode(".png", _picture(seed))[1].tobytes() for seed in range(2)]
    assert [_taken(tmp_path / "a.png", written, damage, 20) for damage in DAMAGES] == [0] * 6
    data = written[0]
    for trial in range(50):  # a single bit, in any part
        bit = random.Random(trial).randrange(8 * 8, 8 * len(data))
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        (tmp_path / "a.png").write_bytes(changed)
        with pytest.raises(ValueError, match=r"image must be .*a\.png"):
            read_image(tmp_path / "a.png")


def test_a_png_with_bytes_after_its_end_is_whole(tmp_path: Path) -> None:
    data = cv2.imencode(".png", _picture(0))[1].tobytes()
    (tmp_path / "a.png").write_bytes(data + b"appended by a camera" * 20)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., ::-1], _picture(0))


@pytest.mark.parametrize("optimal", [False, True])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_flat_and_regular_pictures_are_no_damage(
    tmp_path: Path, optimal: bool, progressive: bool, grey: bool
) -> None:
    """Long runs of equal bytes occur in whole files: blocks without coefficients, repeated."""
    path = tmp_path / "a.jpg"
    for value in (0, 1, 127, 128, 255):
        flat = np.full((128, 192, 3), value, np.uint8)
        checked, half = flat.copy(), flat.copy()
        checked[::2, ::2] = 255 - value
        half[64:] = _picture(0, 64, 192)
        for quality in (1, 75, 100):
            for picture in (flat, checked, half):
                shown = Image.fromarray(picture[..., 0] if grey else picture)
                shown.save(path, quality=quality, optimize=optimal, progressive=progressive)
                expected = cv2.imread(str(path))[..., ::-1]
                np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_pixels_equal_those_of_opencv(tmp_path: Path, reduction: int) -> None:
    flags = {1: 1, 2: 17, 4: 33, 8: 65}[reduction]  # IMREAD_COLOR, IMREAD_REDUCED_COLOR_...
    path = tmp_path / "a.jpg"
    for height, width in ((48, 80), (47, 77), (1, 1), (3, 17)):
        picture = _picture(1, 96, 160)[:height, :width]
        for sampling in (0x111111, 0x211111, 0x221111, 0x411111, 0x121111):
            for extra in ((), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_QUALITY, 30)):
                options = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling, *extra)
                cv2.imwrite(str(path), picture, options)
                expected = cv2.imread(str(path), flags)[..., ::-1]
                np.testing.assert_array_equal(read_image(path, reduction=reduction), expected)


@pytest.mark.oracle("data_real_jpegs_reduced")
def test_pixels_of_real_images_equal_those_of_opencv(real_root: Path) -> None:
    paths = sorted(real_root.glob("samples/CAM_*/*.jpg"))[::5]
    assert paths
    for path in paths:
        for reduction, flags in ((1, 1), (2, 17), (4, 33)):
            expected = cv2.imread(str(path), flags)[..., ::-1]
            np.testing.assert_array_equal(read_image(path, reduction=reduction), expected)


@pytest.mark.oracle("data_real_jpegs_are_whole")
def test_at_most_two_of_a_hundred_damaged_real_images_are_taken(
    real_root: Path, tmp_path: Path
) -> None:
    whole = [path.read_bytes() for path in sorted(real_root.glob("samples/CAM_*/*.jpg"))[::4]]
    taken = {d.__name__: _taken(tmp_path / "a.jpg", whole, d, 50) for d in DAMAGES}
    assert sum(taken.values()) <= 0.02 * 50 * len(DAMAGES), taken


def test_without_simplejpeg_opencv_decodes_and_one_warning_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), _picture(0))
    expected = read_image(path, reduction=2)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    images._strict_decoder.cache_clear()
    try:
        with pytest.warns(UserWarning, match="pip install simplejpeg"):
            np.testing.assert_array_equal(read_image(path, reduction=2), expected)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_image(path)
    finally:
        images._strict_decoder.cache_clear()
