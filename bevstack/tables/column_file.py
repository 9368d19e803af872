"""Arrays in one file that is mapped into memory: safetensors' format, with a sum for each array.

Nothing is read before it is used, processes share the pages, and any reader of safetensors opens
it. ``safetensors`` itself copies what it reads; hence this reader, of a header and some offsets.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.files import write_atomically

_SUMS = "crc32"  # key of the metadata under which the arrays' check sums stand
_TYPES = {
    "F64": np.float64,
    "I64": np.int64,
    "I32": np.int32,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_NAMES = {np.dtype(dtype): name for name, dtype in _TYPES.items()}
_ALIGNMENT = 8


class DamagedFileError(ValueError):
    """A file that does not hold what was written; its message ends a sentence on the path."""


def write_column_file(
    path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Writes arrays by name, whole or not at all.

    Raises:
        OSError: the file cannot be written; names it.
    """
    # Large items first, so that each array begins at a multiple of its items' size.
    ordered = sorted(arrays.items(), key=lambda pair: -pair[1].itemsize)
    packed = {name: np.ascontiguousarray(array) for name, array in ordered}
    header: dict[str, Any] = {}
    end = 0
    for name, array in packed.items():
        start, end = end, end + array.nbytes
        shape = list(array.shape)
        header[name] = {"dtype": _NAMES[array.dtype], "shape": shape, "data_offsets": [start, end]}
    sums = {name: _sum(array) for name, array in packed.items()}
    header["__metadata__"] = {**metadata, _SUMS: json.dumps(sums)}
    write_atomically(path, _pieces(header, packed))


def _pieces(header: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Iterator[Any]:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    yield from map(_bytes, arrays.values())


def _sum(array: NDArray[Any]) -> int:
    """A check sum of the values, and of what they are."""
    return zlib.crc32(_bytes(array), zlib.crc32(f"{array.dtype}{array.shape}".encode()))


def _bytes(array: NDArray[Any]) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))


class ColumnFile:
    """A file of ``write_column_file``, its arrays mapped when asked for.

    The arrays may be written to, which changes neither the file nor what other processes see.

    Raises:
        OSError: no such file, or it cannot be read.
        DamagedFileError: another format, or cut off.
    """

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        if size < 8:
            raise DamagedFileError(f"is cut off after {size} bytes")
        self._map = np.memmap(path, np.uint8, "c")
        self._start = 8 + int.from_bytes(self._map[:8].tobytes(), "little")
        try:
            self._header: dict[str, Any] = json.loads(self._map[8 : self._start].tobytes())
            self.metadata: dict[str, str] = self._header.pop("__metadata__")
            self._sums: dict[str, int] = json.loads(self.metadata[_SUMS])
            end = max((entry["data_offsets"][1] for entry in self._header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DamagedFileError("has no header of columns") from None
        if self._start + end != size:
            raise DamagedFileError(f"is of {size} bytes where {self._start + end} are said")

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The arrays whose names begin with ``prefix``, by the rest of their names.

        Raises:
            DamagedFileError: an array is not as it was written.
        """
        names = [name for name in self._header if name.startswith(prefix)]
        try:
            return {name.removeprefix(prefix): self._array(name) for name in names}
        except (KeyError, TypeError, OverflowError):
            raise DamagedFileError("has a damaged header") from None

    def _array(self, name: str) -> NDArray[Any]:
        entry = self._header[name]
        start, end = entry["data_offsets"]
        dtype = np.dtype(_TYPES[entry["dtype"]])
        count = math.prod(entry["shape"])
        if start < 0 or count < 0 or end - start != count * dtype.itemsize:
            raise DamagedFileError(f"has {end - start} bytes for the {count} values of {name}")
        flat = np.frombuffer(self._map, dtype, count, self._start + start)
        array = flat.reshape([int(length) for length in entry["shape"]])
        if _sum(array) != self._sums.get(name):
            raise DamagedFileError(f"has other values in {name} than were written")
        return array
