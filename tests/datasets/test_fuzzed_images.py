"""Image files with random faults in their structure: each is an image or one sentence."""

from __future__ import annotations

import io
import random
import struct
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bevstack.datasets.images import read_image

HEIGHT, WIDTH = 45, 80
NUMBERS = (0, 1, 255, 65535, 60000, 2**31 - 1, 2**32 - 1)
MAX_CPU_S = 5.0


@pytest.fixture(scope="module")
def sources() -> list[bytes]:
    """Return files of all kinds that cameras and converters write."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 2)
    written = [
        cv2.imencode(".jpg", picture, options)[1].tobytes()
        for options in (
            (),
            (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
            (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
            (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
        )
    ]
    written.append(cv2.imencode(".png", picture.astype(np.uint16) << 8)[1].tobytes())
    for kind, mode in (
        *(("JPEG", mode) for mode in ("L", "CMYK")),
        *(("PNG", mode) for mode in ("L", "LA", "RGB", "RGBA", "P", "1")),
        *(("BMP", mode) for mode in ("L", "RGB", "P")),
    ):
        content = io.BytesIO()
        Image.fromarray(picture).convert(mode).save(content, kind)
        written.append(content.getvalue())
    return written


def _with_check_sums(png: bytes) -> bytes:
    """Correct the check sums of a PNG's parts, so that the fault reaches the decoder."""
    parts, position = [png[:8]], 8
    while position + 12 <= len(png):
        end = position + 8 + int.from_bytes(png[position : position + 4], "big")
        if end + 4 > len(png):
            break
        parts += [png[position:end], struct.pack(">I", zlib.crc32(png[position + 4 : end]))]
        position = end + 4
    return b"".join([*parts, png[position:]])


def _changed(data: bytes, rng: random.Random) -> bytes:
    """Change a file at one to four places, most of them in its header."""
    content = bytearray(data)
    changes: tuple[Callable[[int], None], ...] = (
        lambda p: content.__setitem__(p, content[p] ^ (1 << rng.randrange(8))),
        lambda p: content.__setitem__(p, rng.choice((0, 1, 0x7F, 0x80, 0xFF))),
        lambda p: content.__delitem__(slice(p, p + rng.randrange(1, 64))),
        lambda p: content.__setitem__(slice(p, p), rng.randbytes(rng.randrange(1, 64))),
        lambda p: content.__setitem__(slice(p, p + 4), struct.pack(">I", rng.choice(NUMBERS))),
        lambda p: content.__setitem__(slice(p, p + 4), struct.pack("<I", rng.choice(NUMBERS))),
    )
    for _ in range(rng.randrange(1, 5)):
        end = min(len(content), 700) if rng.random() < 0.6 else len(content)
        if end:
            rng.choice(changes)(rng.randrange(end))
    changed = bytes(content)
    return _with_check_sums(changed) if changed[:4] == b"\x89PNG" else changed


def _read_all(folder: Path, sources: list[bytes], trials: range) -> Counter[str]:
    """Read changed files; return the number of images and of each refusal."""
    path = folder / "changed"
    outcomes: Counter[str] = Counter()
    for seed in trials:
        rng = random.Random(seed)
        path.write_bytes(_changed(rng.choice(sources), rng))
        size = rng.choice((None, (HEIGHT, WIDTH)))
        started = time.process_time()
        try:
            image = read_image(path, size, reduction=1)
        except ValueError as error:
            assert str(error).startswith("image must "), (seed, error)
            assert path.name in str(error) and "\n" not in str(error), (seed, error)
            outcomes[str(error).partition(";")[0]] += 1
        else:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, seed
            assert size is None or image.shape[:2] == size, seed
            outcomes["image"] += 1
        assert time.process_time() - started < MAX_CPU_S, seed
    return outcomes


def _check(outcomes: Counter[str]) -> None:
    # The faults reach every check, and do not all end at the first.
    assert len(outcomes) >= 6, outcomes
    assert outcomes["image must be undamaged"] > 0.2 * sum(outcomes.values()), outcomes


@pytest.mark.filterwarnings("ignore:images of 16 bits")
def test_no_file_ends_in_a_traceback(tmp_path: Path, sources: list[bytes]) -> None:
    _check(_read_all(tmp_path, sources, range(500)))


@pytest.mark.slow
def test_no_file_of_twenty_thousand_ends_in_a_traceback(
    tmp_path: Path, sources: list[bytes]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _check(_read_all(tmp_path, sources, range(20_000)))
