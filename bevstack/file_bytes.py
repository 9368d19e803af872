"""Reading of whole files whose names come from users, tables or archives and are not trusted."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MAX_BYTES = 1 << 24  # of a file that a person or a small program writes
# An error of a path that names no file at all, rather than a missing or forbidden one.
_NO_PATH = (errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO)


def read_bytes(
    path: Path | str,
    subject: str,
    *,
    remedy: str = "check the path",
    max_bytes: int | None = MAX_BYTES,
) -> bytes:
    """Read a whole regular file, at the length that it has when it is opened.

    Bytes that another process appends meanwhile are left out.

    Args:
        path: the file, or a link to it.
        subject: the kind of file, such as "rig file".
        remedy: the last part of the message about a missing file.
        max_bytes: the greatest size of the file; None: any size.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a regular file (a folder, a device, a pipe), a larger one, or one that is
            cut off while it is read.
        OSError: the file cannot be read; the error names it.
    """
    descriptor = _open(path, subject, remedy)
    try:
        try:
            size = _checked_size(os.fstat(descriptor), path, subject, max_bytes)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(size)
        finally:
            os.close(descriptor)
    except OSError as error:  # Python names the file at opening alone
        raise type(error)(error.errno, error.strerror, str(path)) from error
    if len(content) != size:
        raise ValueError(
            f"{subject} must not change while it is read; got {path}, which was cut off: read it "
            "again when its writer has finished"
        )
    return content


def _open(path: Path | str, subject: str, remedy: str) -> int:
    # Without O_NONBLOCK, opening a pipe would wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{subject} must exist; got no file {path}: {remedy}") from None
    except ValueError:  # a NUL byte, or text that no path can hold
        raise ValueError(f"{subject} must be the path of a file; got {str(path)!a}") from None
    except OSError as error:
        if error.errno not in _NO_PATH:
            raise
        shown = str(path)[:300]
        raise ValueError(f"{subject} must be a file; got {shown} ({error.strerror})") from None


def _checked_size(
    state: os.stat_result, path: Path | str, subject: str, max_bytes: int | None
) -> int:
    if not stat.S_ISREG(state.st_mode):
        kind = _kind_of_file(state.st_mode)
        raise ValueError(f"{subject} must be a regular file; got {path}, a {kind}")
    if max_bytes is not None and state.st_size > max_bytes:
        raise ValueError(
            f"{subject} must have at most {max_bytes} bytes; got {state.st_size} in {path}"
        )
    return state.st_size


def _kind_of_file(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    return "pipe or socket" if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else "device"
