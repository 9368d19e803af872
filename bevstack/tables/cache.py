"""The records of large tables kept in one file of columns, made when first needed.

It lies beside the tables, or in the user's cache folder where theirs is not to be written to. It
belongs to tables of certain sizes and times of change; for others it is made anew. Processes that
need it at once wait for the first of them; it takes its place whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from bevstack.tables.column_file import ColumnFile, DamagedFileError, write_column_file
from bevstack.tables.records import RECORDS, Record, arrays_of, record_of
from bevstack.tables.sources import SOURCE_TABLES, JsonRecords

try:
    import fcntl
except ImportError:  # not on Windows, where processes at once each make the file
    fcntl = None  # type: ignore[assignment]

FILE_NAME = "bevstack_columns.safetensors"
FORMAT = 1  # raised when records change, so that older files are made anew
CACHE_FROM_BYTES = 64 << 20  # of all tables: less is parsed in half a second
_APART = "annotations"  # the record that a second process makes, as long as all others


class Records(Protocol):
    """Where the records of a version come from."""

    def record(self, name: str) -> Record:
        """One of `RECORDS`."""


def open_records(folder: Path, *, cache: bool | None = None) -> Records:
    """The records of the tables in a folder.

    Args:
        folder: the version's folder.
        cache: keep large tables as columns; None keeps those of 64 MiB and more.
    """
    if cache is None:
        cache = sum(size for size, _ in _states(folder).values()) >= CACHE_FROM_BYTES
    return CachedRecords(folder) if cache else JsonRecords(folder)


class CachedRecords:
    """Records mapped from the file of columns, which is made where it is missing, old or damaged.

    Where it cannot be made the tables are parsed, as without it, and a warning says why.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._json = JsonRecords(folder)
        self._file = self._find() or self._make()

    def record(self, name: str) -> Record:
        """One of `RECORDS`; see `JsonRecords.record` for what it raises."""
        for _ in range(2):  # a file made anew may be damaged at once only on a broken disk
            if self._file is None:
                break
            try:
                return record_of(RECORDS[name], self._file.arrays(f"{name}."))
            except DamagedFileError as error:
                self._note(f"the kept columns are made anew: the file in use {error}")
                self._file = self._make(check=True)
        return self._json.record(name)

    def _find(self, check: bool = False) -> ColumnFile | None:
        """The file that belongs to the tables as they are; with ``check`` only if all is whole."""
        state = _state(self._folder)
        for path in (self._folder / FILE_NAME, _in_user_cache(self._folder)):
            try:
                file = ColumnFile(path)
                if check:
                    file.arrays("")
            except OSError:
                continue
            except DamagedFileError as error:
                if not check:
                    self._note(f"the kept columns are made anew: {path} {error}")
                continue
            if file.metadata.get("tables") == state:
                return file
        return None

    def _make(self, check: bool = False) -> ColumnFile | None:
        """Makes the file, unless another process has done so by now; None if it cannot be."""
        with _locked(self._folder):
            found = self._find(check)
            if found is not None:
                return found
            state = _state(self._folder)
            try:
                arrays = _all_arrays(self._folder, self._json)
            except (ValueError, FileNotFoundError):
                return None  # raised again when the record at fault is asked for
            if _state(self._folder) != state:
                return None  # the tables are being changed
            file = self._keep(arrays, state)
            if file is not None:
                self._json = JsonRecords(self._folder)  # what the old one read is in the file
            return file

    def _keep(self, arrays: dict[str, NDArray[Any]], state: str) -> ColumnFile | None:
        places = [_in_user_cache(self._folder)]
        if _is_writable(self._folder):
            places.insert(0, self._folder / FILE_NAME)
        reasons = []
        for path in places:
            try:
                write_column_file(path, arrays, {"tables": state})
                return ColumnFile(path)
            except (OSError, DamagedFileError) as error:
                reasons.append(str(error))
        reason = "; ".join(reasons)
        self._note(f"their columns cannot be kept and are made anew each time: {reason}")
        return None

    def _note(self, sentence: str) -> None:
        warnings.warn(f"tables of {self._folder}: {sentence}", stacklevel=2)


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of the tables that are there."""
    found = {}
    for name in SOURCE_TABLES:
        with contextlib.suppress(OSError):
            state = (folder / f"{name}.json").stat()
            found[name] = (state.st_size, state.st_mtime_ns)
    return found


def _state(folder: Path) -> str:
    """What a file of columns belongs to."""
    return json.dumps({"format": FORMAT, **_states(folder)})


def _is_writable(folder: Path) -> bool:
    """Whether to write there; where all write bits are taken away, root does not either."""
    return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)


def _in_user_cache(folder: Path) -> Path:
    # getenv: the XDG base directories are where every program of this user finds the same place,
    # whichever launcher started it.
    home = os.getenv("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    whole = folder.resolve()
    digest = hashlib.sha256(bytes(whole)).hexdigest()[:16]
    return Path(home) / "bevstack/tables" / f"{whole.name}-{digest}.safetensors"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes waiting that come here with the same folder.

    Not on file systems without locks: there the last that writes the file wins.
    """
    descriptor = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    try:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)  # which also unlocks


def _all_arrays(folder: Path, source: JsonRecords) -> dict[str, NDArray[Any]]:
    """The arrays of all records, by ``record.field`` or ``record.field.part``."""
    arrays: dict[str, NDArray[Any]] = {}
    with _made_apart(folder, _APART) as made:
        for name in RECORDS:
            if name != _APART:
                arrays |= named_arrays(name, source)
        arrays |= made() or named_arrays(_APART, source)
    return arrays


def named_arrays(name: str, source: JsonRecords) -> dict[str, NDArray[Any]]:
    """The arrays of one record, by ``record.field`` or ``record.field.part``."""
    return {f"{name}.{part}": array for part, array in arrays_of(source.record(name)).items()}


@contextlib.contextmanager
def _made_apart(folder: Path, name: str) -> Iterator[Callable[[], dict[str, NDArray[Any]] | None]]:
    """Lets a second process make a record; the function waits for it and gives the arrays.

    It gives None where that process could not, for then this one finds out why. A process of its
    own and not a fork, because this one may have threads.
    """
    package = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "columns"
        command = [sys.executable, "-c", _MAKE_APART, str(package), str(folder), name, str(path)]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as process:

            def wait() -> dict[str, NDArray[Any]] | None:
                return None if process.wait() else ColumnFile(path).arrays("")

            try:
                yield wait
            finally:
                process.kill()


_MAKE_APART = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bevstack.tables.cache import named_arrays
from bevstack.tables.column_file import write_column_file
from bevstack.tables.sources import JsonRecords
folder, name, path = sys.argv[2:]
write_column_file(Path(path), named_arrays(name, JsonRecords(Path(folder))), {})
"""
