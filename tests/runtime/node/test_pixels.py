"""Pixels of every encoding are RGB, and images that are not what they state are refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bevstack.runtime.node.inputs import FileImage
from bevstack.runtime.node.pixels import ENCODINGS, check_image, decode
from tests.runtime.node.inputs import SIZE, file_image, jpeg, picture, pixel_image

COLOR = (200, 60, 20)  # RGB
# Of BT.601 with the range of video, which cameras send.
Y, U, V = (
    round(16 + 0.257 * 200 + 0.504 * 60 + 0.098 * 20),
    round(128 - 0.148 * 200 - 0.291 * 60 + 0.439 * 20),
    round(128 + 0.439 * 200 - 0.368 * 60 - 0.071 * 20),
)
HEIGHT, WIDTH = SIZE


def mosaic(pattern: str) -> np.ndarray:
    """Return the Bayer mosaic of an even colour, from the letters of its first two rows."""
    value = dict(zip("rgb", COLOR, strict=True))
    cell = np.array([value[letter] for letter in pattern], np.uint8).reshape(2, 2)
    return np.tile(cell, (HEIGHT // 2, WIDTH // 2))


def even(encoding: str) -> np.ndarray:
    """Return the bytes (rows, bytes a row) of an image of one colour."""
    if encoding.startswith("bayer"):
        return mosaic(encoding[6:10])
    if encoding in ("mono8", "8UC1"):
        return np.full((HEIGHT, WIDTH), 77, np.uint8)
    if encoding == "nv12":
        light = np.full((HEIGHT, WIDTH), Y, np.uint8)
        return np.concatenate(
            (light, np.tile(np.array([U, V], np.uint8), (HEIGHT // 2, WIDTH // 2)))
        )
    pixel = {
        "rgb8": COLOR,
        "bgr8": COLOR[::-1],
        "rgba8": (*COLOR, 9),
        "bgra8": (*COLOR[::-1], 9),
        "yuv422": (U, Y, V, Y),
        "uyvy": (U, Y, V, Y),
        "yuv422_yuy2": (Y, U, Y, V),
        "yuyv": (Y, U, Y, V),
    }[encoding]
    per_row = WIDTH // (2 if encoding[0] in "yu" else 1)
    return np.tile(np.array(pixel, np.uint8), (HEIGHT, per_row))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("padding", [0, 5])
def test_every_encoding_gives_the_color(encoding: str, padding: int) -> None:
    rows = np.pad(even(encoding), ((0, 0), (0, padding)), constant_values=255)
    image = pixel_image(encoding=encoding, step=rows.shape[1], data=rows.reshape(-1))
    assert check_image(image) == SIZE
    found = decode(image)
    expected = (77, 77, 77) if encoding in ("mono8", "8UC1") else COLOR
    assert found.shape == (*SIZE, 3) and found.dtype == np.uint8
    # 4 levels: U and V are rounded to whole numbers, and weigh up to 2.02 in a colour.
    assert np.abs(found.astype(int) - expected).max() <= (4 if encoding[0] in "ynu" else 0)


def test_rgb_keeps_the_place_of_each_pixel() -> None:
    assert np.array_equal(decode(pixel_image()), picture())
    swapped = np.ascontiguousarray(picture()[..., ::-1]).reshape(-1)
    assert np.array_equal(decode(pixel_image(encoding="bgr8", data=swapped)), picture())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "16UC1"}, r"encoding must be one of rgb8, .*; got '16UC1': change it"),
        ({"is_bigendian": True}, "must be little endian; got is_bigendian 1"),
        ({"step": 3 * WIDTH - 1}, "step must be at least 120 bytes for 40 pixels of rgb8; got 119"),
        ({"size": (HEIGHT + 1, WIDTH)}, "data must hold step times rows, 3000 bytes; got 2880"),
        ({"data": np.zeros(10, np.uint8)}, "2880 bytes; got 10: the message is cut off"),
        ({"size": (0, WIDTH)}, "sides of at least 8 pixels.*; got 40x0"),
        ({"size": (1 << 20, 1 << 20)}, "at most 34 million pixels"),
        ({"encoding": "yuyv", "size": (HEIGHT, 39)}, "sides of yuyv must be even; got 39x24"),
    ],
)
def test_wrong_pixels_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_image(pixel_image(**changes))


def test_files_are_decoded_whatever_their_format_field_states() -> None:
    for text in ("rgb8; jpeg compressed bgr8", "png", ""):
        image = FileImage(timestamp_us=1, frame_id="f", format=text, data=jpeg(3))
        assert check_image(image) == SIZE
        truth = cv2.imdecode(np.frombuffer(jpeg(3), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.array_equal(decode(image), truth)
    png = cv2.imencode(".png", picture()[..., ::-1])[1].tobytes()
    assert np.array_equal(decode(file_image("CAM_FRONT", 1, png)), picture())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must be a JPEG or PNG; got 0 bytes of another kind with the format 'jpeg'"),
        (b"GIF89a" * 40, "must be a JPEG or PNG; got 240 bytes"),
        (jpeg()[:-200], "must be whole; got one cut off after"),
    ],
)
def test_wrong_files_are_named(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_image(file_image("CAM_FRONT", 1, data))


def test_damage_inside_a_file_is_noticed_when_it_is_decoded() -> None:
    data = bytearray(jpeg())
    middle = len(data) - 60
    data[middle : middle + 20] = b"\xff\xd9" * 10
    image = file_image("CAM_FRONT", 1, bytes(data))
    with pytest.raises(ValueError, match="image must be undamaged; got the message in cam_front"):
        check_image(image)
        decode(image)
