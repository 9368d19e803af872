"""Mutations of valid files that keep their structure, drawn from a seeded generator.

A mutation of a JSON document changes values, kinds, keys and lists, and stays JSON. Mutations of
binary files change their headers field by field, or bytes of their body.
"""

from __future__ import annotations

import copy
import json
import random
import string
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Draw = random.Random
OUTSIDE = Path(tempfile.gettempdir()) / "bevstack_planted"  # must never be written

NUMBERS = (
    *(0, -1, 1, 2, 3, 255, 1e-9, -1e-9, 0.5, -0.5, 1.5, 90, 180, 1e3, 1e6, 1e12, -1e12, 5e-324),
    *(1e38, 1e39, 1e308, -1e308, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 1, -(2**63)),
)
TEXTS = (
    *("", " ", "x", "0", "1.5", "true", "false", "null", "NaN", "-1", "CAM_FRONT", "scene-0103"),
    *(
        "../../planted",
        "/dev/zero",
        "/etc/passwd",
        "a\0b",
        "a\nb",
        "\u202e",
        "\ud800",
        "\U0001f697",
    ),
    *("C:\\x\\y", "." * 300, "n" * 10_000, "%s%n", "{0}", "[]", "{}", "car", "vehicle.moving"),
)
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))


def mutate_json(document: Any, draw: Draw, *, nan: bool = False) -> Any:
    """Return a copy of a document with one to three changes; ``nan`` permits numbers JSON lacks."""
    holder = [copy.deepcopy(document)]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        container, key = draw.choice(list(places(holder)))
        change = draw.choice(CHANGES)
        change(container, key, draw, nan)
    return holder[0] if holder else None


def places(container: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key or index) of a document, at any depth."""
    keys = list(container) if isinstance(container, dict) else range(len(container))
    for key in keys:
        yield container, key
        if isinstance(container[key], (dict, list)):
            yield from places(container[key])


def any_value(draw: Draw, nan: bool, depth: int = 0) -> Any:
    """Draw a value of any kind."""
    kind = draw.randrange(8 if depth < 2 else 5)
    if kind < 2:
        return draw.choice(NUMBERS + (NOT_FINITE if nan else ()))
    if kind == 2:
        return draw.choice(TEXTS)
    if kind < 5:
        return draw.choice((None, True, False, [], {}, -0.0))
    if kind == 5:
        return {draw.choice(TEXTS): any_value(draw, nan, depth + 1)}
    values = [any_value(draw, nan, depth + 1) for _ in range(draw.randrange(1, 5))]
    return values if kind == 6 else values * draw.choice((1, 3, 50))


def _replace(container: Any, key: Any, draw: Draw, nan: bool) -> None:
    container[key] = any_value(draw, nan)


def _change_number(container: Any, key: Any, draw: Draw, nan: bool) -> None:
    value = container[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _replace(container, key, draw, nan)
    try:
        container[key] = draw.choice(
            (-value, value * 1000, value / 1000, value + 1, value - 1, float(value), str(value))
        )
    except OverflowError:
        container[key] = -1
    return None


def _change_kind(container: Any, key: Any, draw: Draw, nan: bool) -> None:
    """Replace a value by one that looks alike but is of another kind."""
    value = container[key]
    container[key] = draw.choice((str(value), [value], {"value": value}, bool(value), None))


def _remove(container: Any, key: Any, draw: Draw, nan: bool) -> None:
    del container[key]
    if not container:
        _insert(container, key, draw, nan)


def _insert(container: Any, key: Any, draw: Draw, nan: bool) -> None:
    if isinstance(container, dict):
        container[draw.choice(TEXTS)] = any_value(draw, nan)
    else:
        container.insert(draw.randrange(len(container) + 1), any_value(draw, nan))


def _copy_place(container: Any, key: Any, draw: Draw, nan: bool) -> None:
    """Copy a value to another place of the same container, or repeat it in a list."""
    value = copy.deepcopy(container[key])
    if isinstance(container, dict):
        container[draw.choice(list(container))] = value
    else:
        small = len(str(value)) < 500
        container += [value] * draw.choice((1, 1, 2, 600 if small else 3))


def _rename(container: Any, key: Any, draw: Draw, nan: bool) -> None:
    if not isinstance(container, dict):
        container.reverse()
        return
    name = draw.choice((key + "s", key[:-1], key.upper(), draw.choice(TEXTS)))
    container[name] = container.pop(key)


def _nest(container: Any, key: Any, draw: Draw, nan: bool) -> None:
    """Put a value into many lists or objects; fewer than those that the JSON parser refuses."""
    value = container[key]
    for _ in range(draw.choice((2, 30, 70, 200))):
        value = [value] if draw.random() < 0.5 else {"a": value}
    container[key] = value


def _change_text(container: Any, key: Any, draw: Draw, nan: bool) -> None:
    value = container[key]
    if not isinstance(value, str) or not value:
        return _replace(container, key, draw, nan)
    at = draw.randrange(len(value))
    letter = draw.choice(string.printable)
    container[key] = draw.choice(
        (
            value[:at],
            value[:at] + letter + value[at + 1 :],
            value.upper(),
            value + value,
            value[::-1],
        )
    )
    return None


CHANGES: tuple[Callable[[Any, Any, Draw, bool], None], ...] = (
    *(_replace, _replace, _change_number, _change_number, _change_kind, _change_kind),
    *(_remove, _insert, _copy_place, _rename, _nest, _change_text),
)


def mutate_bytes(data: bytes, draw: Draw, *, low: int = 0, high: int | None = None) -> bytes:
    """Return the bytes with some changed, removed, inserted or moved between two positions."""
    body = bytearray(data)
    high = len(body) if high is None else min(high, len(body))
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        if high <= low:
            break
        at, length = draw.randrange(low, high), draw.choice((1, 1, 2, 4, 8, 64, 1000))
        kind = draw.randrange(7)
        if kind == 0:
            body[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            body[at : at + length] = draw.randbytes(length)
        elif kind == 2:
            body[at : at + length] = draw.choice((b"\0", b"\xff", b" ", b"9")) * length
        elif kind == 3:
            del body[at : at + length]
        elif kind == 4:
            body[at:at] = draw.randbytes(length)
        elif kind == 5:
            body[at:at] = body[at : at + length]
        else:
            del body[at:]
        high = min(high, len(body))
    return bytes(body)


def mutate_safetensors(data: bytes, draw: Draw) -> bytes:
    """Return a safetensors file whose header, metadata, header length or tensors are changed."""
    end = 8 + int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:end]), data[end:]
    kind = draw.randrange(6)
    if kind == 0:
        return mutate_bytes(data, draw, low=end)
    if kind == 1:
        length = draw.choice((0, 1, end - 9, end - 7, 2**31, 2**63 - 1, 2**64 - 1))
        return length.to_bytes(8, "little") + data[8:]
    if kind == 2:
        return mutate_bytes(data, draw, low=0, high=end)
    if kind == 3:
        header = mutate_json(header, draw)
    else:
        metadata = header.get("__metadata__", {})
        key = draw.choice(sorted(metadata)) if metadata else ""
        try:
            inner = json.loads(metadata[key])
        except (KeyError, ValueError):
            header["__metadata__"] = mutate_json(metadata, draw)
        else:
            metadata[key] = json.dumps(mutate_json(inner, draw))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def mutate_png(data: bytes, draw: Draw) -> bytes:
    """Return a PNG whose chunks are changed with valid checksums, or whose bytes are changed."""
    import zlib

    if draw.random() < 0.3:
        return mutate_bytes(data, draw)
    chunks, at = [], 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append([data[at + 4 : at + 8], bytearray(data[at + 8 : at + 8 + length])])
        at += 12 + length
    chunk = draw.choice((chunks[0], draw.choice(chunks)))
    if chunk[0] == b"IHDR":
        field = draw.choice(((0, 4), (4, 8), (8, 9), (9, 10), (12, 13)))
        width = field[1] - field[0]
        value = draw.choice((0, 1, 3, 4, 16, 255, 60_000, 2**31 - 1, draw.randrange(256)))
        chunk[1][slice(*field)] = (value % 256**width).to_bytes(width, "big")
    else:
        chunk[1] = bytearray(mutate_bytes(bytes(chunk[1]), draw))
    if draw.random() < 0.2:
        draw.shuffle(chunks)
    return data[:8] + b"".join(
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
        for name, body in chunks
    )


def mutate_jpeg(data: bytes, draw: Draw) -> bytes:
    """Return a JPEG whose segments are changed, among them the size of its frame."""
    kind = draw.randrange(4)
    if kind == 0:
        return mutate_bytes(data, draw)
    frame = data.find(b"\xff\xc0")
    if kind == 1 and frame >= 0:
        body = bytearray(data)
        height, width = (draw.choice((0, 1, 8, 48, 64, 60_000, 65_535)) for _ in range(2))
        body[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        return bytes(body)
    scan = data.find(b"\xff\xda")
    if kind == 2:
        return mutate_bytes(data, draw, low=2, high=scan)
    return mutate_bytes(data, draw, low=scan + 12)


def mutate_tar(data: bytes, draw: Draw) -> bytes:
    """Return a tar file with changed fields of a member's header, with a valid checksum or not."""
    body = bytearray(data)
    if draw.random() < 0.3:
        return mutate_bytes(data, draw)
    headers = [at for at in range(0, len(body), 512) if body[at + 257 : at + 262] == b"ustar"]
    at = draw.choice(headers)
    field, values = draw.choice(_TAR_FIELDS)
    start, length = field
    value = draw.choice(values)
    body[at + start : at + start + length] = value[:length].ljust(length, b"\0")
    if draw.random() < 0.8:
        body[at + 148 : at + 156] = b" " * 8
        total = sum(body[at : at + 512])
        body[at + 148 : at + 156] = f"{total:06o}\0 ".encode()
    return bytes(body)


_TAR_FIELDS = (
    (
        (0, 100),
        (
            b"../planted",
            bytes(OUTSIDE),
            b"a/../../planted",
            b"",
            b".",
            b"\\x",
            b"a/" * 50,
            b"\xff",
        ),
    ),
    ((124, 12), (b"00000000000", b"77777777777", b"-1", b"x", b"\xff" * 12, b"00000001000")),
    ((156, 1), (b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"x", b"L", b"K", b"g", b"\0")),
    ((157, 100), (b"../planted", b"/etc/passwd", b"")),
    ((257, 8), (b"ustar\x0000", b"ustar  \0", b"xxxxxxxx")),
    ((345, 155), (b"..", bytes(OUTSIDE.parent), b"a/" * 70)),
)
