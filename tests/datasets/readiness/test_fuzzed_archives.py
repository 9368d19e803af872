"""Archives with random faults whose headers have valid check sums: unpacked inside, or refused."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import tarfile
import time
from collections import Counter
from pathlib import Path

import pytest

from bevstack.datasets.readiness.archives import unpack_archives

BLOCK = tarfile.BLOCKSIZE
NAMES = (b"../x", b"/x", b"a/../../x", b"samples", b".", b"", b"x" * 99, b"a\\b", b"\xff\xfe")
KINDS = b"0123456789gxLKSVM\0"
SIZES = (b"00000000000", b"77777777777", b"\x80" + b"\xff" * 10, b"\xff" * 11, b"-1", b"zz")
MAX_CPU_S = 5.0


def _whole(rng: random.Random) -> bytes:
    content = io.BytesIO()
    style = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=content, mode="w", format=style) as tar:
        long = "long" * (30 if style == tarfile.USTAR_FORMAT else 40)  # a second header elsewhere
        for index in range(4):
            name = f"samples/{long if index == 2 else 'CAM'}/{index}.jpg"
            member = tarfile.TarInfo(name)
            member.size = 300 * index
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return content.getvalue().rstrip(b"\0") + bytes(4 * BLOCK)


def _with_check_sum(header: bytes) -> bytes:
    total = sum(header[:148]) + 8 * 32 + sum(header[156:])
    return header[:148] + b"%06o\0 " % (total % 8**6) + header[156:]


def _changed(rng: random.Random) -> bytes:
    """Change fields of headers, and correct their check sums."""
    tar = bytearray(_whole(rng))
    tar += bytes(-len(tar) % BLOCK)
    headers = [p for p in range(0, len(tar), BLOCK) if tar[p + 257 : p + 262] == b"ustar"]
    for _ in range(rng.randrange(1, 4)):
        start = rng.choice(headers)
        field = rng.randrange(5)
        if field == 0:
            tar[start : start + 100] = rng.choice(NAMES).ljust(100, b"\0")
        elif field == 1:
            tar[start + 156] = rng.choice(KINDS)
        elif field == 2:
            tar[start + 124 : start + 136] = rng.choice(SIZES).ljust(12, b"\0")
        elif field == 3:
            tar[start + 157 : start + 257] = rng.choice(NAMES).ljust(100, b"\0")
        else:
            tar[start + rng.randrange(BLOCK)] = rng.randrange(256)
        if rng.random() < 0.9:
            tar[start : start + BLOCK] = _with_check_sum(bytes(tar[start : start + BLOCK]))
    return bytes(tar)


def _unpack_all(folder: Path, trials: range) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    for seed in trials:
        rng = random.Random(seed)
        data = _changed(rng)
        archive = folder / "archive.tar"
        archive.write_bytes(gzip.compress(data, 1) if rng.random() < 0.3 else data)
        root = folder / "inner/root"
        started = time.process_time()
        try:
            unpack_archives([archive], root, lambda _: None)
        except ValueError as error:
            assert str(error).startswith("archive must "), (seed, error)
            outcomes[str(error).partition(";")[0]] += 1
        else:
            outcomes["unpacked"] += 1
        assert time.process_time() - started < MAX_CPU_S, seed
        outside = {path.name for path in folder.rglob("*") if root not in (path, *path.parents)}
        assert outside == {"archive.tar", "inner"}, seed
        assert not any(path.is_symlink() for path in root.rglob("*")), seed
        shutil.rmtree(root)
    return outcomes


def test_no_archive_writes_outside_or_ends_in_a_traceback(tmp_path: Path) -> None:
    outcomes = _unpack_all(tmp_path, range(150))
    assert outcomes["unpacked"] > 10 and len(outcomes) >= 3, outcomes


@pytest.mark.slow
def test_no_archive_of_ten_thousand_writes_outside_or_ends_in_a_traceback(tmp_path: Path) -> None:
    outcomes = _unpack_all(tmp_path, range(10_000))
    assert outcomes["unpacked"] > 500 and len(outcomes) >= 3, outcomes
