"""Zip archives as torch.save writes them, read without trust in the sizes that they declare.

The archive holds its entries without compression, each with a CRC-32 (PKWARE's APPNOTE.TXT,
sections 4.3 and 4.5.3).
"""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import NamedTuple

_END = struct.Struct("<4s4H2LH")
_END64_PLACE = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = 65_535
_ENCRYPTED = 1  # bit of an entry's flags


class ArchiveFaultError(ValueError):
    """Error for an archive that is damaged or that torch.save does not write."""


class Entry(NamedTuple):
    """Place of one entry's bytes in the file."""

    start: int
    num_bytes: int
    crc32: int


class TorchArchive:
    """Entries of an archive.

    Args:
        data: the mapped file.
        verify: compare each entry that is read with its CRC-32.

    Raises:
        ArchiveFaultError: the directory is damaged; an entry is compressed, encrypted, twice in
            the archive or outside of it; or entries overlap, so that they declare more bytes than
            the file has.
    """

    def __init__(self, data: mmap.mmap, *, verify: bool = True) -> None:
        self._data = data
        self._verify = verify
        self._entries = _read_directory(data)
        pickles = [n for n in self._entries if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(pickles) != 1:
            raise ArchiveFaultError("it is a zip archive without the entry data.pkl of torch.save")
        self._root = pickles[0].removesuffix("data.pkl")

    @property
    def is_program(self) -> bool:
        """Return True for an archive of TorchScript, which holds a program."""
        return f"{self._root}constants.pkl" in self._entries

    def size(self, name: str) -> int:
        """Return the number of bytes of an entry.

        Raises:
            ArchiveFaultError: there is no such entry.
        """
        return self._find(name).num_bytes

    def has(self, name: str) -> bool:
        """Return True if there is an entry of this name."""
        return self._root + name in self._entries

    def read(self, name: str) -> memoryview:
        """Return the bytes of an entry, as a view of the mapped file.

        Raises:
            ArchiveFaultError: there is no such entry, or its bytes differ from its CRC-32.
        """
        entry = self._find(name)
        content = memoryview(self._data)[entry.start : entry.start + entry.num_bytes]
        if self._verify and zlib.crc32(content) != entry.crc32:
            content.release()
            raise ArchiveFaultError(f"the checksum of its entry {name} differs")
        return content

    def _find(self, name: str) -> Entry:
        entry = self._entries.get(self._root + name)
        if entry is None:
            raise ArchiveFaultError(f"its entry {name} is missing")
        return entry


def _read_directory(data: mmap.mmap) -> dict[str, Entry]:
    """Return the entries by name."""
    position, end = _find_directory(data)
    entries: dict[str, Entry] = {}
    total = 0
    while position + _ENTRY.size <= end:
        fields = _ENTRY.unpack_from(data, position)
        if fields[0] != b"PK\x01\x02":
            break
        flags, method, crc32, packed, size = fields[3], fields[4], *fields[7:10]
        name_bytes, extra_bytes, comment_bytes, offset = *fields[10:13], fields[16]
        names = position + _ENTRY.size
        name = data[names : names + name_bytes].decode("utf-8", "replace")
        extra = data[names + name_bytes : names + name_bytes + extra_bytes]
        size, packed, offset = _long_sizes(extra, size, packed, offset)
        if method != 0 or packed != size or flags & _ENCRYPTED:
            raise ArchiveFaultError(f"its entry {name[:60]!r} is compressed or encrypted")
        if name in entries:
            raise ArchiveFaultError(f"its entry {name[:60]!r} is there twice")
        entries[name] = Entry(_content_start(data, offset, size, name), size, crc32)
        total += size
        position = names + name_bytes + extra_bytes + comment_bytes
    if position != end:
        raise ArchiveFaultError("its directory is damaged")
    if total > len(data):
        raise ArchiveFaultError("its entries overlap")
    return entries


def _find_directory(data: mmap.mmap) -> tuple[int, int]:
    """Return start and end of the directory."""
    place = data.rfind(b"PK\x05\x06", max(0, len(data) - _END.size - _MAX_COMMENT))
    if place < 0 or place + _END.size > len(data):
        raise ArchiveFaultError("its end is missing")
    size, start = _END.unpack_from(data, place)[5:7]
    place64 = place - _END64_PLACE.size
    if 0xFFFFFFFF in (size, start) and place64 >= 0:
        mark, _, start64, _ = _END64_PLACE.unpack_from(data, place64)
        if mark != b"PK\x06\x07" or start64 + _END64.size > len(data):
            raise ArchiveFaultError("its end is damaged")
        size, start = _END64.unpack_from(data, start64)[8:10]
    if start + size > place:
        raise ArchiveFaultError("its end is damaged")
    return start, start + size


def _long_sizes(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Return the sizes and the offset; those that need 64 bits are in the extra field 1."""
    values = [size, packed, offset]
    if 0xFFFFFFFF not in values:
        return size, packed, offset
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        field = extra[place + 4 : place + 4 + length]
        if kind == 1:
            for index, value in enumerate(values):
                if value == 0xFFFFFFFF and len(field) >= 8:
                    values[index] = int.from_bytes(field[:8], "little")
                    field = field[8:]
            break
        place += 4 + length
    return values[0], values[1], values[2]


def _content_start(data: mmap.mmap, offset: int, size: int, name: str) -> int:
    """Return the start of an entry's bytes, which is after its local header."""
    if offset + _LOCAL.size <= len(data):
        fields = _LOCAL.unpack_from(data, offset)
        start: int = offset + _LOCAL.size + fields[9] + fields[10]
        if fields[0] == b"PK\x03\x04" and start + size <= len(data):
            return start
    raise ArchiveFaultError(f"its entry {name[:60]!r} is cut off")
