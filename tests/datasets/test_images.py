from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bevstack.datasets.images import read_image, reduction_for

HEIGHT, WIDTH = 48, 80


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack((rows * 4, columns * 3, np.full_like(rows, 200)), -1).astype(np.uint8)
    path = tmp_path / "picture.jpg"
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    return path


def test_channels_are_red_green_blue(jpeg: Path) -> None:
    image = read_image(jpeg, (HEIGHT, WIDTH))
    assert image.dtype == np.uint8
    assert image.shape == (HEIGHT, WIDTH, 3)
    # OpenCV wrote blue = rows * 4, red = 200; JPEG at quality 100 errs by a few levels
    assert abs(int(image[30, 40, 0]) - 200) < 6
    assert abs(int(image[30, 40, 1]) - 120) < 6
    assert abs(int(image[30, 40, 2]) - 120) < 6


def test_a_png_is_read_exactly(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_cut_off_file_is_refused(jpeg: Path, kept: float, suffix: str) -> None:
    path = jpeg.with_suffix(suffix)
    if suffix == ".png":
        cv2.imwrite(str(path), cv2.imread(str(jpeg)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(
        ValueError, match=rf"image must be a whole file; got .*picture{suffix}, cut"
    ):
        read_image(path)


def test_the_decoder_alone_fills_a_truncated_file_with_grey(jpeg: Path) -> None:
    data = jpeg.read_bytes()
    jpeg.write_bytes(data[: len(data) // 2])
    assert cv2.imread(str(jpeg)) is not None  # the reason for checking the end of the file


def test_a_preallocated_file_of_zeros_is_refused(jpeg: Path) -> None:
    data = jpeg.read_bytes()
    jpeg.write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
    with pytest.raises(ValueError, match="image must be a whole file"):
        read_image(jpeg)


def test_a_thumbnail_inside_does_not_hide_a_cut(jpeg: Path) -> None:
    thumbnail = jpeg.read_bytes()
    data = thumbnail[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data + jpeg.read_bytes()[2:]
    jpeg.write_bytes(whole)
    assert read_image(jpeg).shape == (HEIGHT, WIDTH, 3)
    jpeg.write_bytes(whole[: len(data) + 300])
    with pytest.raises(ValueError, match="image must be a whole file"):
        read_image(jpeg)


def test_bytes_after_the_end_are_ignored(jpeg: Path) -> None:
    wanted = read_image(jpeg)
    jpeg.write_bytes(jpeg.read_bytes() + b"\0\0\0appended by a camera")
    np.testing.assert_array_equal(read_image(jpeg), wanted)


def test_restart_markers_are_no_end(jpeg: Path) -> None:
    image = cv2.imread(str(jpeg))
    cv2.imwrite(str(jpeg), image, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])
    jpeg.write_bytes(jpeg.read_bytes() + b"tail")
    assert read_image(jpeg).shape == (HEIGHT, WIDTH, 3)
    jpeg.write_bytes(jpeg.read_bytes()[:-100])
    with pytest.raises(ValueError, match="image must be a whole file"):
        read_image(jpeg)


def test_a_progressive_jpeg_is_read_whole_or_refused(jpeg: Path) -> None:
    image = cv2.imread(str(jpeg))
    cv2.imwrite(str(jpeg), image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    data = jpeg.read_bytes()
    jpeg.write_bytes(data + b"tail")
    assert read_image(jpeg).shape == (HEIGHT, WIDTH, 3)
    jpeg.write_bytes(data[:-40])
    with pytest.raises(ValueError, match="image must be a whole file"):
        read_image(jpeg)


def test_another_size_than_the_tables_is_refused(jpeg: Path) -> None:
    with pytest.raises(ValueError, match=r"must be 81x48 .* got 80x48 in .*picture\.jpg"):
        read_image(jpeg, (HEIGHT, WIDTH + 1))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"got no file .*none\.jpg"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.parametrize("content", [b"", b"not an image at all"])
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"image must be .*a\.jpg"):
        read_image(path)


@pytest.mark.oracle("data_real_jpegs_are_whole")
def test_real_images_are_whole_and_their_halves_are_not(real_root: Path, tmp_path: Path) -> None:
    files = sorted(real_root.glob("samples/CAM_*/*.jpg"))
    assert len(files) == 24
    for path in files:
        assert read_image(path, (900, 1600)).shape == (900, 1600, 3)
    copy = tmp_path / "half.jpg"
    shutil.copy(files[0], copy)
    copy.chmod(0o644)
    copy.write_bytes(copy.read_bytes()[:-70_000])
    with pytest.raises(ValueError, match="image must be a whole file"):
        read_image(copy)


@pytest.mark.parametrize(
    ("size", "scale", "top", "wanted"),
    [
        ((900, 1600), 1.2, 0, 1),
        ((900, 1600), 0.51, 0, 1),
        ((900, 1600), 0.5, 0, 2),
        ((900, 1600), 0.2, 0, 4),
        ((900, 1600), 0.1, 0, 4),  # 900 is no multiple of 8
        ((480, 800), 0.125, 0, 8),
        ((480, 800), 0.01, 0, 8),
        ((901, 1600), 0.2, 0, 1),
        ((900, 1600), 0.2, 260, 4),
        ((900, 1600), 0.2, 270, 2),
        ((900, 1600), 0.2, 271, 1),
    ],
)
def test_an_image_is_reduced_as_far_as_no_needed_pixel_is_lost(
    size: tuple[int, int], scale: float, top: int, wanted: int
) -> None:
    assert reduction_for(size, scale, top) == wanted


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_reduced_image_is_the_mean_of_its_pixels(jpeg: Path, reduction: int, suffix: str) -> None:
    path = jpeg.with_suffix(suffix)
    cv2.imwrite(str(path), cv2.imread(str(jpeg)), [cv2.IMWRITE_JPEG_QUALITY, 100])
    found = read_image(path, (HEIGHT, WIDTH), reduction=reduction).astype(float)
    assert found.shape == (HEIGHT // reduction, WIDTH // reduction, 3)
    blocks = read_image(path).reshape(HEIGHT // reduction, reduction, WIDTH // reduction, -1, 3)
    # The picture is a linear gradient, so its low frequencies are its means; colours are coded at
    # half the resolution and with 8 bits. A shift by one pixel of the result would be 8 levels.
    assert abs(found - blocks.mean(axis=(1, 3)))[1:-1, 1:-1].max() < 4


def test_sizes_are_those_of_the_file_whatever_the_reduction(jpeg: Path) -> None:
    with pytest.raises(ValueError, match=r"must be 96x48 .* got 80x48 in .*picture\.jpg"):
        read_image(jpeg, (HEIGHT, WIDTH + 16), reduction=4)
    with pytest.raises(ValueError, match=r"reduction must divide .* got 4 for 81x48"):
        read_image(jpeg, (HEIGHT, WIDTH + 1), reduction=4)
    image = cv2.imread(str(jpeg))[:-1, :-3]  # reduced, it is as large as the other one
    for suffix in (".jpg", ".png", ".bmp"):
        path = jpeg.with_suffix(suffix)
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
        with pytest.raises(ValueError, match=r"must be 80x48 .* got 77x47 in"):
            read_image(path, (HEIGHT, WIDTH), reduction=4)
    with pytest.raises(ValueError, match="reduction must be one of 1, 2, 4, 8; got 3"):
        read_image(jpeg, reduction=3)


@pytest.mark.oracle("data_real_jpegs_reduced")
@pytest.mark.parametrize("scale", [0.5, 0.4, 0.25, 0.2])
def test_real_images_differ_less_by_reduced_decoding_than_by_the_choice_of_filter(
    real_root: Path, scale: float
) -> None:
    reduction = reduction_for((900, 1600), scale)
    assert reduction > 1
    size = (round(1600 * scale), round(900 * scale))
    errors, choices = [], []
    for path in sorted(real_root.glob("samples/CAM_*/*.jpg"))[::4]:
        whole = Image.fromarray(read_image(path, (900, 1600)))
        small = Image.fromarray(read_image(path, (900, 1600), reduction=reduction))
        wanted = np.asarray(whole.resize(size, Image.Resampling.BICUBIC), dtype=float)
        bilinear = np.asarray(whole.resize(size, Image.Resampling.BILINEAR), dtype=float)
        found = np.asarray(small.resize(size, Image.Resampling.BICUBIC), dtype=float)
        errors.append(((found - wanted) ** 2).mean())
        choices.append(((bilinear - wanted) ** 2).mean())
        assert abs((found - wanted).mean()) < 0.1  # no change of brightness
    assert np.sqrt(np.mean(errors)) < 1.5  # levels of 255; measured 0.6 to 1.4
    assert np.mean(errors) < np.mean(choices)


@pytest.mark.oracle("data_real_jpegs_reduced")
def test_a_reduced_real_image_is_not_shifted(real_root: Path) -> None:
    path = next(real_root.glob("samples/CAM_FRONT/*.jpg"))
    whole, half = (cv2.cvtColor(read_image(path, reduction=k), cv2.COLOR_RGB2GRAY) for k in (1, 2))
    means = whole.reshape(450, 2, 800, 2).mean(axis=(1, 3)).astype(np.float32)
    (dx, dy), _ = cv2.phaseCorrelate(means, half.astype(np.float32))
    assert (
        abs(dx) < 0.02 and abs(dy) < 0.02
    )  # pixels; another convention would shift by half a pixel
