"""Random damages to a file's bytes, as faulty disks and interrupted downloads cause them."""

from __future__ import annotations

import random
from collections.abc import Iterator


def damaged_copies(content: bytes, count: int, *, seed: int) -> Iterator[bytes]:
    """Yield damaged copies: flipped bits, cuts, pieces removed, swapped, zeroed or overwritten."""
    draw = random.Random(seed)
    kinds = (_flip, _flip, _cut, _remove, _swap, _zero, _overwrite)
    for number in range(count):
        damaged = content
        while damaged == content:  # a swap of equal pieces changes nothing
            damaged = kinds[number % len(kinds)](bytearray(content), draw)
        yield damaged


def _flip(content: bytearray, draw: random.Random) -> bytes:
    for _ in range(draw.choice((1, 1, 1, 3))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def _cut(content: bytearray, draw: random.Random) -> bytes:
    return bytes(content[: draw.randrange(1, len(content))])


def _piece(content: bytearray, draw: random.Random) -> slice:
    length = draw.randrange(1, max(2, len(content) // 4))
    start = draw.randrange(len(content) - length)
    return slice(start, start + length)


def _remove(content: bytearray, draw: random.Random) -> bytes:
    del content[_piece(content, draw)]
    return bytes(content)


def _swap(content: bytearray, draw: random.Random) -> bytes:
    length = draw.randrange(1, max(2, len(content) // 4))
    first = draw.randrange(len(content) - 2 * length + 1)
    second = draw.randrange(first + length, len(content) - length + 1)
    a, b = slice(first, first + length), slice(second, second + length)
    content[a], content[b] = content[b], content[a]
    return bytes(content)


def _zero(content: bytearray, draw: random.Random) -> bytes:
    piece = _piece(content, draw)
    content[piece] = bytes(piece.stop - piece.start)
    return bytes(content)


def _overwrite(content: bytearray, draw: random.Random) -> bytes:
    piece = _piece(content, draw)
    content[piece] = draw.randbytes(piece.stop - piece.start)
    return bytes(content)
