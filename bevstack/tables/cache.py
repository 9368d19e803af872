"""A cache of large tables: their records in one column file, built when first needed.

The file lies beside the tables, or in the user's cache folder if the tables' folder is read-only.
It is valid for the sizes and modification times of the tables it was built from; if they change, it
is rebuilt. Processes that need it at the same time wait for the first one to build it. The file is
replaced atomically.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from numpy.typing import NDArray

from bevstack.files import scratch_folder
from bevstack.tables.column_file import ColumnFile, DamagedFileError, write_column_file
from bevstack.tables.records import RECORDS, Record, record_from_arrays, record_to_arrays
from bevstack.tables.sources import SOURCE_TABLES, JsonRecords

try:
    import fcntl

    _fcntl: ModuleType | None = fcntl
except ImportError:  # on Windows: concurrent processes each build the file
    _fcntl = None

_LOG = logging.getLogger(__name__)
FILE_NAME = "bevstack_columns.safetensors"
FORMAT = 5  # increased when records or their checks change, so that older files are rebuilt
CACHE_FROM_BYTES = 64 << 20  # size of all tables; smaller ones are parsed in half a second
_SUBPROCESS_RECORD = "annotations"  # takes as long to build as all the remaining records together


class Records(Protocol):
    """A source of the records of a version."""

    def record(self, name: str) -> Record:
        """Return one of `RECORDS` by name."""


def open_records(folder: Path, *, cache: bool | None = None) -> Records:
    """Open the records of the tables in a folder.

    Args:
        folder: the version's folder.
        cache: True caches the records in a column file, False parses the JSON tables, and None
            caches tables of 64 MiB and more.
    """
    if cache is None:
        cache = sum(size for size, _ in _table_states(folder).values()) >= CACHE_FROM_BYTES
    return CachedRecords(folder) if cache else JsonRecords(folder)


class CachedRecords:
    """Records mapped from the column file, which is built if it is missing, outdated or damaged.

    Tables with a fault are never cached. A record whose tables are missing is left out of the file,
    so its use raises the error. If the file cannot be written, a warning gives the reason and the
    JSON tables are parsed instead.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._json = JsonRecords(folder)
        self._file = self._find() or self._build()
        _LOG.info("tables of %s: %s", folder, "parsed" if self._file is None else "cached columns")

    def record(self, name: str) -> Record:
        """Return one of `RECORDS` by name; it raises the errors of `JsonRecords.record`."""
        for _ in range(2):  # a rebuilt file is damaged again only if the disk is broken
            if self._file is None:
                break
            try:
                arrays = self._file.arrays(f"{name}.")
                if not arrays:
                    break  # the record's tables are missing
                return record_from_arrays(RECORDS[name], arrays)
            except DamagedFileError as error:
                self._warn(f"the column cache is rebuilt: the file in use {error}")
                self._file = self._build(check=True)
        return self._json.record(name)

    def _find(self, check: bool = False) -> ColumnFile | None:
        """Return a valid file for the present tables, or None; ``check`` verifies all checksums."""
        state = _cache_key(self._folder)
        for path in (self._folder / FILE_NAME, _user_cache_path(self._folder)):
            try:
                file = ColumnFile(path)
                if check:
                    file.arrays("")
            except OSError:
                continue
            except DamagedFileError as error:
                if not check:
                    self._warn(f"the column cache is rebuilt: {path} {error}")
                continue
            if file.metadata.get("tables") == state:
                return file
        return None

    def _build(self, check: bool = False) -> ColumnFile | None:
        """Build the file, unless another process has just built it; return None on failure."""
        with _locked(self._folder):
            existing = self._find(check)
            if existing is not None:
                return existing
            state = _cache_key(self._folder)
            try:
                arrays = _all_arrays(self._folder, self._json)
            except ValueError:
                return None  # reading the faulty record raises the error again
            except OSError as error:  # of a table: reading it raises the error again
                self._warn(f"the column cache cannot be built; tables are parsed: {error}")
                return None
            if _cache_key(self._folder) != state:
                return None  # another program is changing the tables
            file = self._write(arrays, state)
            if file is not None:
                self._json = JsonRecords(self._folder)  # frees the parsed tables, now in the file
            return file

    def _write(self, arrays: dict[str, NDArray[Any]], state: str) -> ColumnFile | None:
        paths = [_user_cache_path(self._folder)]
        if _is_writable(self._folder):
            paths.insert(0, self._folder / FILE_NAME)
        reasons = []
        for path in paths:
            try:
                write_column_file(path, arrays, {"tables": state})
                return ColumnFile(path)
            except (OSError, DamagedFileError) as error:
                reasons.append(str(error))
        reason = "; ".join(reasons)
        self._warn(f"the column cache cannot be written; tables are parsed each time: {reason}")
        return None

    def _warn(self, sentence: str) -> None:
        warnings.warn(f"tables of {self._folder}: {sentence}", stacklevel=2)


def _table_states(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size in bytes and modification time in nanoseconds of the tables that exist."""
    states = {}
    for name in SOURCE_TABLES:
        with contextlib.suppress(OSError):
            state = (folder / f"{name}.json").stat()
            states[name] = (state.st_size, state.st_mtime_ns)
    return states


def _cache_key(folder: Path) -> str:
    """Return the key that a column file must have to be valid for the present tables."""
    return json.dumps({"format": FORMAT, **_table_states(folder)})


def _is_writable(folder: Path) -> bool:
    """Return True if the folder is writable; without write bits it is not, even for root."""
    return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)


def _user_cache_path(folder: Path) -> Path:
    # The XDG base directory is the one place where all programs of a user find the same cache.
    home = os.getenv("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    resolved = folder.resolve()
    digest = hashlib.sha256(bytes(resolved)).hexdigest()[:16]
    return Path(home) / "bevstack/tables" / f"{resolved.name}-{digest}.safetensors"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that build its column file.

    Without file-system locks there is no exclusion, and the last process to write wins.
    """
    descriptor = os.open(folder, os.O_RDONLY) if _fcntl is not None else None
    try:
        if _fcntl is not None and descriptor is not None:
            with contextlib.suppress(OSError):
                _fcntl.flock(descriptor, _fcntl.LOCK_EX)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)  # also releases the lock


def _all_arrays(folder: Path, source: JsonRecords) -> dict[str, NDArray[Any]]:
    """Return the arrays of all records, by ``record.field`` or ``record.field.part``.

    Records whose tables are missing are left out.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with _built_in_subprocess(folder, _SUBPROCESS_RECORD) as wait:
        for name in RECORDS:
            with contextlib.suppress(FileNotFoundError):
                if name == _SUBPROCESS_RECORD:
                    arrays |= wait() or named_arrays(name, source)
                else:
                    arrays |= named_arrays(name, source)
    return arrays


def named_arrays(name: str, source: JsonRecords) -> dict[str, NDArray[Any]]:
    """Return the arrays of one record, by ``record.field`` or ``record.field.part``."""
    arrays = record_to_arrays(source.record(name))
    return {f"{name}.{part}": array for part, array in arrays.items()}


@contextlib.contextmanager
def _built_in_subprocess(
    folder: Path, name: str
) -> Iterator[Callable[[], dict[str, NDArray[Any]] | None]]:
    """Build a record in a second process; the yielded function waits and returns its arrays.

    The function returns None if the second process failed. The caller then builds the record
    itself, which raises the error. The process is started from scratch rather than forked, because
    this process may have threads.
    """
    package = Path(__file__).resolve().parents[2]
    with scratch_folder() as scratch:
        path = scratch / "columns"
        arguments = [str(package), str(folder), name, str(path)]
        command = [sys.executable, "-c", _SUBPROCESS_PROGRAM, *arguments]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as process:

            def wait() -> dict[str, NDArray[Any]] | None:
                return None if process.wait() else ColumnFile(path).arrays("")

            try:
                yield wait
            finally:
                process.kill()


_SUBPROCESS_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bevstack.tables.cache import named_arrays
from bevstack.tables.column_file import write_column_file
from bevstack.tables.sources import JsonRecords
folder, name, path = sys.argv[2:]
write_column_file(Path(path), named_arrays(name, JsonRecords(Path(folder))), {})
"""
