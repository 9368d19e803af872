"""Atomic writing of files, and a reproducible order of safetensors metadata."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_atomically(
    path: Path | str,
    content: bytes | Iterable[bytes | memoryview],
) -> None:
    """Write a file atomically, and create its folder if necessary.

    The content goes to a temporary file beside ``path``. The temporary file replaces ``path`` only
    when it is complete and on the disk. After an error, a full disk or a kill, an older file is
    therefore unchanged.

    Args:
        path: the file.
        content: the whole content, or chunks of it, which are written one after the other.

    Raises:
        OSError: the folder cannot be created or written, or the disk is full; the error names
            ``path``.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, (content,) if isinstance(content, bytes) else content)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error


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


def sort_safetensors_metadata(data: bytes) -> tuple[bytes, memoryview]:
    """Sort the metadata of a safetensors file by key.

    The safetensors library writes metadata in the random order of a hash table. The same tensors
    and metadata would give a file with a different digest each time.

    Args:
        data: the whole file. Format: 8 bytes of header size, a JSON header, padded with spaces to
            a multiple of 8 bytes, and the tensors (safetensors README, "Format").

    Returns:
        The new header with its size, and a view of the tensors, which are not copied.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, memoryview(data)[end:]


def _replace(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp permits the owner alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
