"""Members of a tar archive, read once from its start to its verified end, within bounds."""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from bevstack.file_names import path_inside

MAX_EXPANSION = 50  # unpacked bytes for a byte of a gzipped archive; nuScenes' tables need 7
MIN_LIMIT_BYTES = 1 << 26  # small archives of tables may expand more
MAX_FOLDERS = 32  # in the path of a member


@contextlib.contextmanager
def open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar file, plain or gzipped, for one pass; damage is an error of the pass.

    ``tarfile`` alone takes a damaged header for the end of the archive, and reads a gzipped one
    without its check sum.

    Raises:
        tarfile.TarError: a header is damaged, data follow the end, or the archive unpacks to more
            than ``MAX_EXPANSION`` allows.
        OSError: the file cannot be read, or the check sum of a gzipped archive is wrong.
        EOFError: a gzipped archive is cut off.
    """
    with contextlib.ExitStack() as stack:
        source: IO[bytes] = stack.enter_context(archive.open("rb"))
        if source.read(2) == b"\x1f\x8b":
            source = cast("IO[bytes]", stack.enter_context(gzip.open(archive)))
        else:
            source.seek(0)
        bounded = cast("IO[bytes]", _Bounded(source, limit_bytes(archive)))
        yield stack.enter_context(tarfile.open(fileobj=bounded, mode="r|", tarinfo=_Header))


def limit_bytes(archive: Path) -> int:
    """Return the bytes that an archive may unpack to."""
    return max(MIN_LIMIT_BYTES, MAX_EXPANSION * archive.stat().st_size)


def expect_end(tar: tarfile.TarFile) -> None:
    """Check, after the last member, that nothing but zeros follows; this reads a check sum too.

    Raises:
        tarfile.ReadError: data follow, so that a part within the archive was lost.
    """
    assert tar.fileobj is not None  # given at opening
    while block := tar.fileobj.read(1 << 16):
        if any(block):
            raise tarfile.ReadError("data follow the end of the archive")


def member_path(member: tarfile.TarInfo, root: Path) -> Path | None:
    """Return the destination of a member; None if it is no plain file or folder below ``root``.

    A link that exists in ``root`` must not lead outside either.
    """
    plain = (member.isreg() or member.isdir()) and not member.issparse()
    if not plain or "\\" in member.name or member.name.count("/") > MAX_FOLDERS:
        return None
    try:
        path = path_inside(root, member.name)
    except ValueError:
        return None
    inside = os.path.realpath(root)
    folder = os.path.realpath(path.parent if path != root else path)
    return path if os.path.commonpath([inside, folder]) == inside else None


class _Bounded:
    """Stream that ends with an error after a number of bytes."""

    def __init__(self, source: IO[bytes], limit: int) -> None:
        self._source = source
        self._limit = limit
        self._left = limit

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.ReadError(f"it unpacks to more than {self._limit / 1e6:.0f} MB")
        return data


class _Header(tarfile.TarInfo):
    """Header of a member; a damaged one is an error."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # the block of zeros that ends an archive
            raise tarfile.ReadError(f"a damaged or missing header: {error}") from None
        if header.size < 0:
            raise tarfile.ReadError("a header with a negative size")
        return header
