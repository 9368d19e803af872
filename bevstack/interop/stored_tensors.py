"""Tensors as torch.save describes them in a pickle: views of storages that lie beside it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import torch

from bevstack.interop.pickle_machine import (
    PickleFaultError,
    PickleMachine,
    is_plain_key,
)

MAX_DIMENSIONS = 32
MAX_REPEATED = 65_536  # values of a tensor that repeats those of a smaller storage

_STORAGES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
_DTYPES = {str(dtype): dtype for dtype in _STORAGES.values()} | {
    f"torch.{name}": getattr(torch, name)
    for name in ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")
}


class StorageType(NamedTuple):
    """Type of a storage's values; for bytes of any type, uint8."""

    dtype: torch.dtype


class Storage(NamedTuple):
    """A block of values in the file."""

    key: str
    dtype: torch.dtype
    num_values: int

    @property
    def num_bytes(self) -> int:
        """Return the size in bytes."""
        return self.num_values * self.dtype.itemsize


class StoredTensor(NamedTuple):
    """View of a storage."""

    storage: Storage
    dtype: torch.dtype
    offset: int  # values
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class PickledObject(NamedTuple):
    """Content of one pickle."""

    content: object  # tensors are ``StoredTensor``
    foreign: tuple[str, ...]  # names of classes and functions that were left out
    storages: Mapping[str, Storage]  # all storages that the file must hold, by key


_CONSTANTS: Mapping[str, object] = {
    **{
        f"{module}.{name}Storage": StorageType(dtype)
        for name, dtype in _STORAGES.items()
        for module in ("torch", "torch.cuda")
    },
    **{
        f"{module}.{name}": StorageType(torch.uint8)
        for module in ("torch", "torch.storage")
        for name in ("UntypedStorage", "_UntypedStorage")
    },
    **_DTYPES,
}


def read_object(stream: IO[bytes], num_bytes: int) -> PickledObject:
    """Read one pickle of torch.save; tensors in it become ``StoredTensor``.

    Args:
        stream: see ``PickleMachine``.
        num_bytes: size of the whole file, which no storage or tensor may exceed.

    Raises:
        PickleFaultError: the pickle is damaged, or declares tensors that the file cannot hold.
        ForeignCallError: the pickle would run a program.
    """
    storages: dict[str, Storage] = {}

    def resolve(key: object) -> Storage:
        storage = _storage(key, num_bytes)
        if storages.setdefault(storage.key, storage) != storage:
            raise PickleFaultError(f"storage {storage.key} is declared in two ways")
        return storage

    functions = dict(_FUNCTIONS)
    machine = PickleMachine(stream, functions, constants=_CONSTANTS, resolve=resolve)

    def rebuild_subclass(arguments: tuple[Any, ...]) -> object:
        function, _, inner, _ = arguments
        return machine.call(function, inner)

    functions["torch._tensor._rebuild_from_type_v2"] = rebuild_subclass
    content = machine.run()
    return PickledObject(content, tuple(machine.foreign), storages)


def _storage(key: object, num_bytes: int) -> Storage:
    """Return the storage of a persistent id: ("storage", type, key, location, number of values)."""
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
        raise PickleFaultError("a persistent id names no storage")
    _, kind, name, _, num_values = key[:5]
    if len(key) > 5 and key[5] is not None:
        raise PickleFaultError("a storage is a view of another one, as before torch 0.4")
    if not isinstance(kind, StorageType) or not isinstance(name, str) or not _is_size(num_values):
        raise PickleFaultError("a storage has no type, name or size")
    storage = Storage(name, kind.dtype, num_values)
    if storage.num_bytes > num_bytes:
        raise PickleFaultError(f"storage {name} is larger than the file")
    return storage


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _rebuild(arguments: tuple[Any, ...]) -> StoredTensor:
    """Return the tensor of (storage, offset, shape, stride, ...)."""
    storage = arguments[0]
    if not isinstance(storage, Storage):
        raise PickleFaultError("a tensor has no storage")
    return _view(storage, storage.dtype, arguments)


def _rebuild_typed(arguments: tuple[Any, ...]) -> StoredTensor:
    """Return the tensor of (storage of bytes, offset, shape, stride, _, _, type, ...)."""
    storage, dtype = arguments[0], arguments[6]
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise PickleFaultError("a tensor has no storage or type")
    return _view(storage, dtype, arguments)


def _view(storage: Storage, dtype: torch.dtype, arguments: tuple[Any, ...]) -> StoredTensor:
    """Return a view, after a check that it lies in its storage and repeats few values."""
    offset, shape, stride = arguments[1:4]
    whole = isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride)
    if not whole or len(shape) > MAX_DIMENSIONS:
        raise PickleFaultError("a tensor has no shape")
    if not all(_is_size(value) for value in (offset, *shape, *stride)):
        raise PickleFaultError("the shape of a tensor is no list of sizes")
    available = storage.num_bytes // dtype.itemsize
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    count = math.prod(shape)
    if count and (last >= available or count > max(available, MAX_REPEATED)):
        raise PickleFaultError("a tensor is larger than its storage")
    return StoredTensor(storage, dtype, offset, tuple(shape), tuple(stride))


def _first(arguments: tuple[Any, ...]) -> object:
    return arguments[0]


def _ordered(arguments: tuple[Any, ...]) -> object:
    """Return a dictionary of (), or of (pairs,) as Python 2 wrote it."""
    pairs = arguments[0] if arguments else ()
    if isinstance(pairs, dict):
        return OrderedDict(pairs)
    return OrderedDict((key, value) for key, value in pairs if is_plain_key(key))


def _size(arguments: tuple[Any, ...]) -> object:
    return tuple(arguments[0]) if arguments else ()


_FUNCTIONS: Mapping[str, Callable[[tuple[Any, ...]], object]] = {
    "collections.OrderedDict": _ordered,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_tensor_v3": _rebuild_typed,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
}
