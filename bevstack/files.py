"""Safe files: atomic writing and removal of leftovers."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

try:
    import fcntl
except ImportError:  # Windows: leftovers stay, because it is unknown if their process still runs
    _CAN_LOCK = False
else:
    _CAN_LOCK = True

_LOG = logging.getLogger(__name__)
_LEFTOVER = re.compile(r"\..*\.bevstack-[0-9a-f]{16}\.part")


def write_atomically(
    path: Path | str,
    content: bytes | Iterable[bytes | memoryview],
) -> None:
    """Write a file atomically, and create its folder if necessary.

    The content goes to a temporary file beside ``path``, which replaces ``path`` only when it is on
    the disk. After an error or a kill, an older file is unchanged. The next process that writes to
    the folder removes a temporary file that a kill left behind.

    Args:
        path: the file.
        content: the whole content, or chunks of it, which are written one after the other.

    Raises:
        OSError: the folder cannot be created or written, or the disk is full; the error names
            ``path``.
    """
    path = Path(path)
    with naming(path, always=True):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        for chunk in (content,) if isinstance(content, bytes) else content:
            file.write(chunk)
    _LOG.info("wrote %s", path)


def write_text_atomically(
    path: Path | str,
    text: str | Iterable[str],
) -> None:
    """Write text in UTF-8 by ``write_atomically``.

    Raises:
        OSError: the folder cannot be created or written, or the disk is full; the error names
            ``path``.
    """
    chunks = (text,) if isinstance(text, str) else text
    write_atomically(path, (chunk.encode() for chunk in chunks))


@contextlib.contextmanager
def naming(path: Path | str, *, always: bool = False) -> Iterator[None]:
    """Add the path to an error of the operating system: Python names a file at opening alone.

    Args:
        path: the file that the block reads or writes.
        always: replace also another path, such as that of a temporary file.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is not None and not always):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


class _NamedFile(io.FileIO):
    """File whose errors name the path that it will get."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._path = path
        with naming(path, always=True):
            super().__init__(descriptor, "wb")

    def write(self, data: ReadableBuffer, /) -> int:
        with naming(self._path, always=True):
            return super().write(data)

    def close(self) -> None:
        with naming(self._path, always=True):
            super().close()


@contextlib.contextmanager
def _naming_below(temporary: Path, path: Path) -> Iterator[None]:
    """Replace the path of a temporary folder in errors by the one that it will get."""
    try:
        yield
    except OSError as error:
        named = Path(str(error.filename))
        if error.errno is None or not named.is_relative_to(temporary):
            raise
        final = str(path / named.relative_to(temporary))
        raise type(error)(error.errno, error.strerror, final) from error


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Yield a new temporary file, which replaces ``path`` if the block ends without an error.

    Args:
        path: the file; its folder must exist.
        sync: put the content on the disk before it replaces ``path``. False is faster; after a
            power failure the file may then be empty.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the error names ``path``.
    """
    _remove_leftovers_once(str(path.parent.absolute()))
    with naming(path, always=True):
        descriptor, temporary = _create_locked(path)
    try:
        with io.BufferedWriter(_NamedFile(descriptor, path)) as file:
            yield file
            with naming(path, always=True):
                file.flush()
                if sync:
                    os.fsync(file.fileno())
                if _CAN_LOCK:
                    os.replace(temporary, path)  # while the lock keeps other processes away
        if not _CAN_LOCK:
            with naming(path, always=True):
                os.replace(temporary, path)  # Windows moves closed files only
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_folder(path: Path, *, replaces_full: bool = False) -> Iterator[Path]:
    """Yield a new folder, which gets the name ``path`` if the block ends without an error.

    Args:
        path: the folder; must be absent or empty. Its parents are created.
        replaces_full: remove a folder at ``path`` that holds files, when the new one is whole.

    Raises:
        OSError: the folder cannot be created, or ``path`` holds files. An error of a file in the
            new folder names it as if the folder had its final name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    with naming(path, always=True):
        descriptor, temporary = _create_locked_folder(path)
    try:
        with _naming_below(temporary, path):
            yield temporary
        with naming(path, always=True):
            if replaces_full and path.is_dir() and not path.is_symlink() and any(path.iterdir()):
                old = _temporary_name(path)
                os.rename(path, old)
                os.replace(temporary, path)
                _remove_tree(old)
            else:
                os.replace(temporary, path)
    finally:
        _remove_tree(temporary)
        _close(descriptor)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder for temporary files, readable by the user alone; remove it afterwards."""
    parent = Path(tempfile.gettempdir())
    remove_leftovers(parent)
    descriptor, temporary = _create_locked_folder(parent / "scratch", mode=0o700)
    try:
        yield temporary
    finally:
        _remove_tree(temporary)
        _close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders that killed processes of bevstack left in a folder.

    They are known by their names. Locked ones of running processes and other users' ones stay.
    """
    if not _CAN_LOCK:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _LEFTOVER.fullmatch(entry.name) and not entry.is_symlink():
                _remove_unlocked(Path(entry.path), is_folder=entry.is_dir())


def is_private(path: Path | str) -> bool:
    """Return True if a file or folder is this user's and no other user can write it."""
    state = os.stat(path)
    return not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & 0o022)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name[:40]}.bevstack-{secrets.token_hex(8)}.part")


def _create_locked(path: Path) -> tuple[int, Path]:
    """Create a temporary file beside ``path`` and lock it for as long as it is open."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)  # follows no link
    while True:
        temporary = _temporary_name(path)
        descriptor = os.open(temporary, flags, 0o666)  # less the umask, as for ordinary files
        _lock(descriptor)
        # Before it was locked, a process that looks for leftovers may have removed it.
        with contextlib.suppress(FileNotFoundError), _removed_on_error(temporary.unlink):
            if not _CAN_LOCK or os.path.samestat(os.fstat(descriptor), os.lstat(temporary)):
                return descriptor, temporary
        os.close(descriptor)


def _create_locked_folder(path: Path, *, mode: int = 0o777) -> tuple[int | None, Path]:
    while True:
        temporary = _temporary_name(path)
        temporary.mkdir(mode)
        if not _CAN_LOCK:
            return None, temporary
        with contextlib.suppress(FileNotFoundError), _removed_on_error(temporary.rmdir):
            descriptor = os.open(temporary, os.O_RDONLY)
            _lock(descriptor)
            if temporary.is_dir():
                return descriptor, temporary
            os.close(descriptor)


@contextlib.contextmanager
def _removed_on_error(remove: Callable[[], None]) -> Iterator[None]:
    """Remove a new temporary file or folder if it cannot be examined."""
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            remove()
        raise


def _lock(descriptor: int) -> None:
    if _CAN_LOCK:
        # On a file system without locks, no process can lock a leftover, so none removes it.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)


@functools.lru_cache(maxsize=1024)
def _remove_leftovers_once(folder: str) -> None:
    """Remove leftovers at a process's first write into a folder; later writes cost nothing."""
    remove_leftovers(Path(folder))


def _remove_tree(path: Path) -> None:
    """Remove a folder; what cannot be removed stays for the next process."""
    with contextlib.suppress(OSError):  # of fstat and close, which rmtree does not ignore
        shutil.rmtree(path, ignore_errors=True)


def _close(lock: int | None) -> None:
    """Close the lock of a temporary folder, which holds no data that could be lost."""
    if lock is not None:
        with contextlib.suppress(OSError):
            os.close(lock)


def _remove_unlocked(path: Path, *, is_folder: bool) -> None:
    access = os.O_RDONLY if is_folder else os.O_RDWR | os.O_NONBLOCK
    with contextlib.suppress(OSError):
        descriptor = os.open(path, access | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_folder:
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        finally:
            os.close(descriptor)
