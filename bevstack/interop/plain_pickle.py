"""Reading of pickles of plain containers, numbers, texts and numpy arrays, without running any.

Information files of mmdetection3d are such pickles. Numpy writes an array as a call of one of a few
functions with its type, shape and bytes (``ndarray.__reduce__``, ``__reduce_ex__``); only these
calls are understood. A name of any other class or function refuses the file.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from bevstack.files import naming
from bevstack.interop.pickle_machine import (
    MAX_OPCODES,
    Foreign,
    ForeignCallError,
    PickleFaultError,
    PickleMachine,
    Unfinished,
    is_plain_key,
)
from bevstack.models.file_kinds import describe_start, read_start

MAX_FILE_BYTES = 8 << 30
MAX_DIMENSIONS = 32
_CODE = re.compile(r"b1|[iu][1248]|f[248]|[US][1-9]\d{0,3}")  # of the types that are read
_ARRAY = object()  # stands for the class numpy.ndarray


def read_plain_pickle(path: Path | str, *, what: str) -> object:
    """Read a pickle that holds plain values and numpy arrays only; nothing in it is run.

    Sets become lists, and numpy's numbers those of Python. Arrays are read-only.

    Args:
        path: the file.
        what: its kind, subject of the error messages, such as "info file".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, damaged or too large, or names a class or function
            that is not plain; the message names the file and the first such name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{what} must be a file; got {path}, which is not one")
    kind = describe_start(read_start(path))
    if kind is not None:
        raise ValueError(f"{what} must be a pickle; got {path}, which is {kind[0]}: {kind[1]}")
    num_bytes = path.stat().st_size
    if num_bytes > MAX_FILE_BYTES:
        raise ValueError(f"{what} must have at most {MAX_FILE_BYTES >> 30} GiB; got {path}")
    try:
        with (
            naming(path, always=True),
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            machine = PickleMachine(
                cast(IO[bytes], data),  # as a file: read, readline and tell
                _FUNCTIONS,
                constants=_CONSTANTS,
                resolve=_refuse_reference,
                max_opcodes=MAX_OPCODES + num_bytes,  # each opcode has one byte or more
            )
            content = machine.run()
    except ForeignCallError as error:
        raise _foreign(what, path, str(error)) from None
    except PickleFaultError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{what} must be a whole pickle; got {path}, which is damaged or of another kind "
            f"({reason}): copy or make it again"
        ) from None
    if machine.foreign:
        raise _foreign(what, path, next(iter(machine.foreign)))
    return content


def _foreign(what: str, path: Path, name: str) -> ValueError:
    return ValueError(
        f"{what} must hold plain values and numpy arrays only; got {path}, which names "
        f"{ascii(name)[1:81].rstrip(chr(39))}: nothing was run; make it again from the data set's "
        "own tables"
    )


def _refuse_reference(key: object) -> object:
    raise PickleFaultError("it refers to objects outside of it")


class _PendingType(Unfinished):
    """Type of an array's values, whose byte order follows."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = code

    def finish(self, state: object) -> np.dtype[Any]:
        """Return the type; the state is (version, byte order, three of None, ...).

        Raises:
            PickleFaultError: the state is of another form, as that of a type with fields.
        """
        if not isinstance(state, tuple) or len(state) < 5 or any(s is not None for s in state[2:5]):
            raise PickleFaultError("an array has a type with fields")
        order = state[1]
        if not isinstance(order, str) or order not in ("<", ">", "=", "|"):
            raise PickleFaultError("an array has no byte order")
        return np.dtype(self.code) if order == "|" else np.dtype(order + self.code)


class _PendingArray(Unfinished):
    """Array whose type, shape and values follow."""

    def finish(self, state: object) -> NDArray[Any]:
        """Return the array; the state is (version, shape, type, is Fortran's order, values).

        Raises:
            PickleFaultError: the state is of another form.
        """
        if not isinstance(state, tuple) or len(state) != 5:
            raise PickleFaultError("an array has no values")
        return _array(state[4], state[2], state[1], "F" if state[3] else "C")


def _array(values: object, dtype: object, shape: object, order: str) -> NDArray[Any]:
    """Return an array of bytes, after a check that its shape fits their number."""
    if not isinstance(dtype, np.dtype) or not isinstance(values, (bytes, bytearray)):
        raise PickleFaultError("an array has no type or values, or more than 1 MiB of them")
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
        raise PickleFaultError("an array has no shape")
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise PickleFaultError("an array has a shape that is no list of sizes")
    if math.prod(shape) * dtype.itemsize != len(values):
        raise PickleFaultError("an array has another number of values than its shape")
    if not values:
        return np.zeros(shape, dtype)
    flat = np.frombuffer(bytes(values), dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _start_array(arguments: tuple[Any, ...]) -> object:
    """Return the array of (class, (0,), b"b"), which numpy fills later."""
    if len(arguments) != 3 or arguments[0] is not _ARRAY:
        raise PickleFaultError("an array is of another class than numpy.ndarray")
    return _PendingArray()


def _array_from_buffer(arguments: tuple[Any, ...]) -> object:
    """Return the array of (values, type, shape, order)."""
    values, dtype, shape, order = arguments
    return _array(values, dtype, shape, str(order))


def _start_type(arguments: tuple[Any, ...]) -> object:
    """Return the type of (code, ...), whose byte order follows."""
    code = arguments[0]
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        shown = "objects" if isinstance(code, str) and code[:1] == "O" else ascii(code)[:40]
        raise PickleFaultError(f"an array holds {shown}, not numbers or texts")
    return _PendingType(code)


def _scalar(arguments: tuple[Any, ...]) -> object:
    """Return the number or text of (type, bytes)."""
    dtype, values = arguments
    return _array(values, dtype, (1,), "C")[0].item()


def _encode(arguments: tuple[Any, ...]) -> object:
    """Return the bytes of (text, "latin1"), as protocol 2 writes them."""
    text, coding = arguments
    if isinstance(text, Foreign):
        raise PickleFaultError("it holds more than 1 MiB of bytes in one piece")
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise PickleFaultError("bytes have an unknown coding")
    return text.encode("latin-1")


def _bytes(arguments: tuple[Any, ...]) -> object:
    """Return the bytes of (), or of (bytes,)."""
    if arguments and not isinstance(arguments[0], (bytes, bytearray)):
        raise PickleFaultError("bytes are made of something else")
    return bytes(arguments[0]) if arguments else b""


def _items(arguments: tuple[Any, ...]) -> object:
    """Return the items of a set, as a list."""
    if arguments and not isinstance(arguments[0], (list, tuple)):
        raise PickleFaultError("a set has no items")
    return list(arguments[0]) if arguments else []


def _ordered(arguments: tuple[Any, ...]) -> object:
    """Return a dictionary of (), or of (pairs,)."""
    pairs = arguments[0] if arguments else ()
    if isinstance(pairs, dict):
        return dict(pairs)
    return {key: value for key, value in pairs if is_plain_key(key)}


_Function = Callable[[tuple[Any, ...]], object]
_MULTIARRAY: Mapping[str, _Function] = {"_reconstruct": _start_array, "scalar": _scalar}
_BUILTINS: Mapping[str, _Function] = {
    **{"bytes": _bytes, "bytearray": _bytes},
    **{"set": _items, "frozenset": _items},
}
_FUNCTIONS: Mapping[str, _Function] = {
    "numpy.dtype": _start_type,
    "_codecs.encode": _encode,
    "collections.OrderedDict": _ordered,
    **{
        f"{module}.{name}": function
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name, function in _MULTIARRAY.items()
    },
    **{
        f"{module}._frombuffer": _array_from_buffer
        for module in ("numpy.core.numeric", "numpy._core.numeric")
    },
    **{f"{m}.{n}": f for m in ("builtins", "__builtin__") for n, f in _BUILTINS.items()},
}
_CONSTANTS: Mapping[str, object] = {"numpy.ndarray": _ARRAY}
