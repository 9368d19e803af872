"""Reading of files that torch.save wrote, zip archives and older ones, without running anything."""

from __future__ import annotations

import contextlib
import io
import mmap
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from bevstack.files import naming
from bevstack.interop.pickle_machine import ForeignCallError, PickleFaultError
from bevstack.interop.stored_tensors import Storage, StoredTensor, read_object
from bevstack.interop.torch_archive import ArchiveFaultError, TorchArchive
from bevstack.models.file_kinds import describe_start, read_start

# First numbers of the layout before torch 1.6: pickles one after the other, then the storages.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAX_PICKLE_BYTES = 512 << 20  # of the pickle beside the storages; usual ones have less than 10 MB

_ReadStorage = Callable[[Storage], memoryview]


class TorchFile:
    """An open file: its content without tensors' values, and a function that reads these."""

    def __init__(
        self,
        content: object,
        foreign: tuple[str, ...],
        *,
        read: _ReadStorage,
        swap: bool,
    ) -> None:
        self.content = content  # tensors are ``StoredTensor``
        self.foreign = foreign  # names of classes and functions that were left out
        self._read = read
        self._swap = swap  # bytes of each value, as the file's order differs from this machine's
        self._loaded: dict[str, Tensor] = {}

    def load(self, tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
        """Return the values of tensors; those of one storage share its memory."""
        return {name: self._tensor(stored) for name, stored in tensors.items()}

    def _tensor(self, stored: StoredTensor) -> Tensor:
        key = stored.storage.key
        if key not in self._loaded:
            parts = 2 if stored.dtype.is_complex else 1
            self._loaded[key] = self._storage(stored.storage, stored.dtype.itemsize // parts)
        values = self._loaded[key]
        whole = values[: len(values) // stored.dtype.itemsize * stored.dtype.itemsize]
        return whole.view(stored.dtype).as_strided(stored.shape, stored.stride, stored.offset)

    def _storage(self, storage: Storage, itemsize: int) -> Tensor:  # (bytes,) uint8
        with self._read(storage) as content:
            values = torch.empty(len(content), dtype=torch.uint8)
            values.numpy()[:] = np.frombuffer(content, np.uint8)
        if self._swap and itemsize > 1:
            return values.view(-1, itemsize).flip(1).flatten()
        return values


@contextlib.contextmanager
def open_torch_file(path: Path, *, verify: bool = True) -> Iterator[TorchFile]:
    """Open a file of torch.save; its tensors can be read within the context.

    Args:
        path: a file that is not empty.
        verify: compare the entries of an archive with their CRC-32.

    Raises:
        ValueError: the file is of another kind, damaged, or would run a program; names the file.
    """
    kind = describe_start(read_start(path))
    if kind is not None:
        raise ValueError(
            f"published weights must be a file written by torch.save or safetensors; got {path}, "
            f"which is {kind[0]}: {kind[1]}"
        )
    try:
        with path.open("rb") as file, _map(file, path) as data:
            yield _open(data, verify)
    except ForeignCallError as error:
        raise ValueError(
            f"published weights must hold tensors and plain values only; got {path}, which calls "
            f"{str(error)[:80]} when Python's pickle reads it, as an attack does: nothing was run; "
            "get the file from its author again"
        ) from None
    except (PickleFaultError, ArchiveFaultError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"published weights must be a whole file written by torch.save; got {path}, which is "
            f"damaged or of another kind ({reason}): download it again"
        ) from None


def _map(file: BinaryIO, path: Path) -> mmap.mmap:
    with naming(path, always=True):
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _open(data: mmap.mmap, verify: bool) -> TorchFile:
    if data[:2] == b"PK":
        return _open_archive(TorchArchive(data, verify=verify), len(data))
    return _open_sequence(data)


def _open_archive(archive: TorchArchive, num_bytes: int) -> TorchFile:
    if archive.is_program:
        raise ArchiveFaultError(
            "it is a program of TorchScript: load it with torch.jit and save its state_dict"
        )
    if archive.size("data.pkl") > MAX_PICKLE_BYTES:
        raise ArchiveFaultError(f"its data.pkl is larger than {MAX_PICKLE_BYTES >> 20} MiB")
    order = sys.byteorder
    if archive.has("byteorder"):
        with archive.read("byteorder") as text:
            order_found = bytes(text).decode("ascii", "replace")
        if order_found not in ("little", "big"):
            raise ArchiveFaultError("its byte order is neither little nor big")
        order = "big" if order_found == "big" else "little"
    with archive.read("data.pkl") as pickled:
        content, foreign, _ = read_object(io.BytesIO(pickled), num_bytes)

    def read(storage: Storage) -> memoryview:
        found = archive.read(f"data/{storage.key}")
        if len(found) != storage.num_bytes:
            found.release()
            raise ArchiveFaultError(f"its storage {storage.key} has another size than declared")
        return found

    return TorchFile(content, foreign, read=read, swap=order != sys.byteorder)


def _open_sequence(data: mmap.mmap) -> TorchFile:
    """Open the layout before torch 1.6: magic number, protocol, system, object, keys, storages."""
    stream = cast(IO[bytes], data)  # as a file: read, readline and tell
    num_bytes = len(data)
    if read_object(stream, num_bytes).content != MAGIC:
        raise PickleFaultError("it is a pickle of Python, which torch.save did not write")
    if read_object(stream, num_bytes).content != PROTOCOL:
        raise PickleFaultError("its protocol is not known")
    system = read_object(stream, num_bytes).content
    content, foreign, declared = read_object(stream, num_bytes)
    keys = read_object(stream, num_bytes).content
    if not isinstance(system, dict) or not isinstance(keys, list):
        raise PickleFaultError("its description is damaged")
    little = system.get("little_endian") is not False
    position = data.tell()
    places: dict[str, int] = {}
    for key in keys:
        if not isinstance(key, str) or key not in declared:
            raise PickleFaultError("it holds a storage that no tensor uses")
        values = int.from_bytes(data[position : position + 8], "little" if little else "big")
        places[key] = position + 8
        if values != declared[key].num_values:
            raise PickleFaultError(f"its storage {key} has another size than declared")
        position += 8 + declared[key].num_bytes
    if position > num_bytes:
        raise PickleFaultError("its storages are cut off")

    def read(storage: Storage) -> memoryview:
        if storage.key not in places:
            raise PickleFaultError(f"its storage {storage.key} is missing")
        start = places[storage.key]
        return memoryview(data)[start : start + storage.num_bytes]

    return TorchFile(content, foreign, read=read, swap=little != (sys.byteorder == "little"))
