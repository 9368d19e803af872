"""Writing files whole or not at all."""

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
    """Writes a file, making its folder where needed.

    The content goes to a temporary file beside ``path``, which takes its place only when it is
    complete and on the disk: after an error, a full disk or a kill an older file is still whole.

    Args:
        path: the file.
        content: all of it, or pieces, which are written as they come.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full; names ``path``.
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
    """``write_atomically`` for text, in UTF-8."""
    pieces = (text,) if isinstance(text, str) else text
    write_atomically(path, (piece.encode() for piece in pieces))


def safetensors_in_order(data: bytes) -> tuple[bytes, memoryview]:
    """A safetensors file with its metadata in the order of their names.

    The library writes them as a hash table has them, so the same tensors and metadata would be
    another file, of another digest, each time.

    Args:
        data: the whole file. Format: 8 bytes of header size, a JSON header, padded with spaces to
            a multiple of 8 bytes, and the tensors (safetensors README, "Format").

    Returns:
        The new header with its size, and the tensors, not copied.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, memoryview(data)[end:]


def _replace(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes it readable by its owner alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
