"""Headers of image files: kind, size and pixel format, known before anything is decoded."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_BMP_START = b"BM"

_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; 3 is a palette
_MAX_PARTS = 100_000  # markers or chunks of a file
_BARE_MARKERS = (0x00, 0x01, 0xFF, *range(0xD0, 0xD8))  # stuffed and fill bytes, restarts
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_LUMINANCE = 0x10  # class and number of the first component's AC codes
_USUAL_CODES = bytes.fromhex("10 00020103030204030505040400 00017d 010203000411051221314106")
_RUN_BYTES = 32
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # ends a scan's compressed data
_MAX_SCANS = 50  # of a progressive JPEG; usual are 10. Each scan costs a pass over all blocks.


@dataclass(frozen=True)
class ImageHeader:
    """Kind, size and pixel format that an image file declares."""

    kind: str  # "JPEG", "PNG" or "BMP"
    size: tuple[int, int]  # (H, W) pixels
    channels: int
    bits: int  # of a channel
    has_alpha: bool = False


def read_header(data: bytes) -> ImageHeader | None:
    """Read the header of a JPEG, PNG or BMP; None if it is none of them or has no valid header."""
    if data.startswith(_JPEG_START):
        return _jpeg_header(data)
    if data.startswith(_PNG_START):
        return _png_header(data)
    if data.startswith(_BMP_START):
        return _bmp_header(data)
    return None


def is_complete(data: bytes) -> bool:
    """Return True if an image file has its end."""
    if data.startswith(_JPEG_START):
        # The end marker is last, unless the camera appends data. Zeros are preallocated space.
        return data.rstrip(b"\0").endswith(_JPEG_END) or _jpeg_scan_ends(data)
    if data.startswith(_PNG_START[:4]):
        return b"IEND" in data[-64:] or _png_fault(data) is None
    header = _bmp_header(data) if data.startswith(_BMP_START) else None
    if header is not None:
        row_bytes = (header.size[1] * header.channels * header.bits // 8 + 3) // 4 * 4
        return len(data) >= int.from_bytes(data[10:14], "little") + header.size[0] * row_bytes
    return len(data) > 0


def find_fault(data: bytes) -> str | None:
    """Describe the damage that is found without decoding; None if there is none.

    The check sums of a PNG cover every byte. A JPEG has none: its decoder finds most damage, but
    not always a block that a disk lost and filled with one value. With the usual Huffman codes (ITU
    T.81, table K.5) such a run of bytes stands for blocks of 63 equal coefficients, which no
    picture has.
    """
    if data.startswith(_PNG_START):
        return _png_fault(data)
    return _jpeg_fault(data) if data.startswith(_JPEG_START) else None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, position) of the parts of a JPEG up to its first scan."""
    position = 2
    for _ in range(_MAX_PARTS):
        if position < 0 or position + 10 > len(data):
            return
        marker = data[position + 1]
        if data[position] != 0xFF or marker in _BARE_MARKERS:
            position = data.find(b"\xff", position + 1)
            continue
        yield marker, position
        if marker in (_END, _SCAN):
            return
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")


def _jpeg_header(data: bytes) -> ImageHeader | None:
    for marker, position in _jpeg_segments(data):
        if marker in _FRAMES:
            height, width = data[position + 5 : position + 7], data[position + 7 : position + 9]
            size = int.from_bytes(height, "big"), int.from_bytes(width, "big")
            return ImageHeader("JPEG", size, data[position + 9], data[position + 4])
    return None


def _jpeg_fault(data: bytes) -> str | None:
    segments = list(_jpeg_segments(data))
    if not segments or segments[-1][0] != _SCAN:
        return "it has no scan"
    start = segments[-1][1]
    if not any(marker in (0xC0, 0xC1) for marker, _ in segments):  # progressive
        many = data.count(bytes((0xFF, _SCAN)), start) > _MAX_SCANS
        return f"it has more than {_MAX_SCANS} scans" if many else None
    # Codes of other tables may describe a flat picture by equal bytes; zeros are known to be none
    # unless the shortest code is the one of an empty rest of a block.
    usual = data.find(_USUAL_CODES, 0, start) >= 0
    if not usual and _shortest_codes(data, segments).get(_LUMINANCE, 0) == 0:
        return None
    end = _MARKER_IN_SCAN.search(data, start + 2)
    sparse = np.frombuffer(data, np.uint8)[start : end.start() if end else None : _RUN_BYTES]
    for index in np.flatnonzero(sparse[1:] == sparse[:-1]):
        first = start + _RUN_BYTES * int(index)
        run = set(data[first : first + _RUN_BYTES + 1])
        if len(run) == 1 and (usual or run == {0}):
            return f"a run of equal bytes at {first}, which stands for no picture"
    return None


def _shortest_codes(data: bytes, segments: list[tuple[int, int]]) -> dict[int, int]:
    """Return the symbol of the shortest code, all zeros, of each Huffman table of a JPEG."""
    symbols = {}
    for marker, position in segments:
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        position += 4
        while marker == 0xC4 and position + 17 < min(end, len(data)):
            symbols[data[position]] = data[position + 17]
            position += 17 + sum(data[position + 1 : position + 17])
    return symbols


def _png_header(data: bytes) -> ImageHeader | None:
    if data[12:16] != b"IHDR" or len(data) < 33 or data[25] not in _PNG_CHANNELS:
        return None
    size = int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    alpha = data[25] in (4, 6) or b"tRNS" in data[33 : max(33, data.find(b"IDAT"))]
    return ImageHeader("PNG", size, _PNG_CHANNELS[data[25]], data[24], alpha)


def _bmp_header(data: bytes) -> ImageHeader | None:
    compression = int.from_bytes(data[30:34], "little")
    bits = int.from_bytes(data[28:30], "little")
    if len(data) < 54 or int.from_bytes(data[14:18], "little") < 40 or compression not in (0, 3):
        return None
    width = int.from_bytes(data[18:22], "little", signed=True)
    height = abs(int.from_bytes(data[22:26], "little", signed=True))  # negative: from the top
    channels = {8: 1, 24: 3, 32: 4}.get(bits)
    return (
        None if channels is None or width < 0 else ImageHeader("BMP", (height, width), channels, 8)
    )


def _png_fault(data: bytes) -> str | None:
    position = 8
    for _ in range(_MAX_PARTS):
        if position + 12 > len(data):
            break
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        name = data[position + 4 : position + 8]
        if end + 4 > len(data):
            return f"its part {name!r} is cut off"
        if zlib.crc32(memoryview(data)[position + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            return f"the check sum of its part {name!r} is wrong"
        if name == b"IEND":
            return None
        position = end + 4
    return "it has no end"


def _jpeg_scan_ends(data: bytes) -> bool:
    """Follow the markers of a JPEG to the end of its image; skip thumbnails in the header."""
    position = 2
    for _ in range(_MAX_PARTS):
        if position + 4 > len(data) or data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xD9:
            return True
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA:
            found = _MARKER_IN_SCAN.search(data, position)
            if found is None:
                return False
            position = found.start()
    return data[position : position + 2] == _JPEG_END
