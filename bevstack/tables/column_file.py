"""A memory-mapped file of arrays: the safetensors format with a checksum for each array.

Pages are read on first use and shared between processes, and any safetensors reader opens the file.
The ``safetensors`` library copies the arrays that it reads. This module has its own reader for that
reason; it only needs the header and the offsets.
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

_CHECKSUMS_KEY = "crc32"  # metadata key of the checksums of the arrays
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
    """A file whose content differs from what was written.

    The message is a predicate without a subject: callers put the path in front of it.
    """


def write_column_file(
    path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write arrays by name; after an error the previous file is unchanged.

    Raises:
        OSError: the file cannot be written; the error names it.
    """
    # Large items come first, so that each array starts at a multiple of its item size.
    ordered = sorted(arrays.items(), key=lambda pair: -pair[1].itemsize)
    packed = {name: np.ascontiguousarray(array) for name, array in ordered}
    header: dict[str, Any] = {}
    end = 0
    for name, array in packed.items():
        start, end = end, end + array.nbytes
        shape = list(array.shape)
        header[name] = {"dtype": _NAMES[array.dtype], "shape": shape, "data_offsets": [start, end]}
    checksums = {name: _checksum(array) for name, array in packed.items()}
    header["__metadata__"] = {**metadata, _CHECKSUMS_KEY: json.dumps(checksums)}
    write_atomically(path, _chunks(header, packed))


def _chunks(header: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Iterator[Any]:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    yield from map(_bytes, arrays.values())


def _checksum(array: NDArray[Any]) -> int:
    """Return the CRC-32 of the dtype, the shape and the values."""
    return zlib.crc32(_bytes(array), zlib.crc32(f"{array.dtype}{array.shape}".encode()))


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


class ColumnFile:
    """A file written by ``write_column_file``; its arrays are mapped on request.

    The arrays are writable. Writing changes neither the file nor the arrays of other processes.

    Raises:
        OSError: the file does not exist or cannot be read.
        DamagedFileError: the file has another format or is cut off.
    """

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        if size < 8:
            raise DamagedFileError(f"is cut off after {size} bytes")
        self._map = np.memmap(path, np.uint8, "c")
        self._start = 8 + int.from_bytes(self._map[:8].tobytes(), "little")
        try:
            self._header: dict[str, Any] = json.loads(self._map[8 : self._start].tobytes())
            self.metadata: dict[str, str] = dict(self._header.pop("__metadata__"))
            self._checksums: dict[str, int] = json.loads(self.metadata[_CHECKSUMS_KEY])
            end = max((entry["data_offsets"][1] for entry in self._header.values()), default=0)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise DamagedFileError("has no column header") from None
        if not isinstance(end, int):
            raise DamagedFileError("has no column header")
        if self._start + end != size:
            raise DamagedFileError(f"has {size} bytes instead of {self._start + end}")

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays whose names start with ``prefix``, by the rest of their names.

        Raises:
            DamagedFileError: an array differs from what was written.
        """
        names = [name for name in self._header if name.startswith(prefix)]
        try:
            return {name.removeprefix(prefix): self._array(name) for name in names}
        except DamagedFileError:
            raise
        except (LookupError, TypeError, AttributeError, OverflowError, ValueError):
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
        if _checksum(array) != self._checksums.get(name):
            raise DamagedFileError(f"has a wrong checksum for {name}")
        return array
