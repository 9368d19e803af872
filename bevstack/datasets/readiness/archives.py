"""Safe and resumable unpacking of the official nuScenes archives."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from bevstack.datasets.readiness.tar_stream import (
    MAX_EXPANSION,
    expect_end,
    limit_bytes,
    member_path,
    open_tar,
)
from bevstack.files import replacing, write_text_atomically
from bevstack.json_files import read_json

try:
    import fcntl
except ImportError:  # Windows: a second process is not kept out
    _CAN_LOCK = False
else:
    _CAN_LOCK = True

RECORD_NAME = ".unpacked_archives.json"  # in the root: progress of each archive
ENDINGS = (".tar", ".tgz", ".tar.gz")
RESERVE_BYTES = 1 << 28  # to stay free on the disk
_SAVE_BYTES = 1 << 29  # unpacked between two updates of the record


@dataclass(frozen=True)
class Progress:
    """Progress of unpacking an archive, valid only for a file of the same size and time."""

    size: int
    mtime_ns: int
    unpacked_bytes: int = 0
    done: bool = False


def find_archives(folder: Path) -> list[Path]:
    """Find the archives in a folder, sorted by name.

    Raises:
        FileNotFoundError: no such folder, or no archive in it.
    """
    archives = sorted(p for p in folder.glob("*") if p.name.endswith(ENDINGS) and p.is_file())
    if not archives:
        raise FileNotFoundError(
            f"archives must be {', '.join('*' + e for e in ENDINGS)} in {folder}; got none: "
            "download them from nuscenes.org into one folder"
        )
    return archives


def unpack_archives(
    archives: Sequence[Path],
    root: Path,
    report: Callable[[str], None],
) -> None:
    """Unpack archives into ``root``, one after the other.

    Every file appears complete or not at all. Existing files of the right size are kept, and
    archives that were unpacked before are skipped, so that the same call resumes after a stop.

    Args:
        archives: tar files, plain or gzipped.
        root: folder that receives ``samples/``, ``maps/`` and the tables; created if absent.
        report: called with one line of text about each archive.

    Raises:
        ValueError: an archive is damaged, unpacks to more than ``MAX_EXPANSION`` times its size, or
            has a member that would lie outside the root or is not a plain file.
        OSError: there is not enough space (the message states how much is needed), a file cannot be
            written, or a second process unpacks into ``root``.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _exclusive(root):
        _unpack_all(archives, root, report)


def _unpack_all(archives: Sequence[Path], root: Path, report: Callable[[str], None]) -> None:
    record = _read_record(root)
    waiting = [a for a in archives if not _progress(record, a).done]
    # JPEGs and point clouds hardly shrink: unpacked, an archive takes about the same space again.
    needed = sum(max(0, a.stat().st_size - _progress(record, a).unpacked_bytes) for a in waiting)
    _expect_space(root, needed, f"{len(waiting)} archives")
    for archive in archives:
        if archive not in waiting:
            report(f"{archive.name}: unpacked before")
            continue
        written, kept = _unpack(archive, root, record)
        report(f"{archive.name}: {written} files written, {kept} already present")


def _unpack(archive: Path, root: Path, record: dict[str, Progress]) -> tuple[int, int]:
    written = kept = total = saved = 0
    state = _progress(record, archive)

    def save(done: bool = False) -> None:
        record[archive.name] = Progress(state.size, state.mtime_ns, total, done)
        text = json.dumps({name: asdict(progress) for name, progress in record.items()}, indent=1)
        write_text_atomically(root / RECORD_NAME, text)

    try:
        with open_tar(archive) as tar:
            for member, path in _members(tar, archive, root):
                total += member.size
                if path.is_file() and path.stat().st_size == member.size:
                    kept += 1
                    continue
                _expect_space(root, member.size, path.name)
                _write(tar.extractfile(member), path)
                written += 1
                if total - saved > _SAVE_BYTES:
                    saved = total
                    save()
            expect_end(tar)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        save()
        if isinstance(error, (FileExistsError, NotADirectoryError, IsADirectoryError)):
            raise ValueError(
                f"archive must give each path either a file or a folder; got {error.filename} as "
                f"both, from {archive} or already in {root}"
            ) from None
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise
        raise ValueError(
            f"archive must be a whole tar file; got {archive}, which is damaged or cut off after "
            f"{written + kept} files ({error}): download it again; the unpacked files are kept"
        ) from None
    except BaseException:
        save()
        raise
    save(done=True)
    return written, kept


def _members(
    tar: tarfile.TarFile, archive: Path, root: Path
) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    """Yield plain files and their destinations; refuse all but files and folders in the root."""
    total, limit = 0, limit_bytes(archive)
    for member in tar:
        path = member_path(member, root)
        if path is None:
            raise ValueError(
                f"archive must hold plain files and folders inside the root only; got "
                f"{member.name[:200]!a} in {archive}: this is no archive of nuScenes, or a "
                "link in the root leads outside"
            )
        total += member.size
        if total > limit:
            raise ValueError(
                f"archive must unpack to at most {limit / 1e6:.0f} MB, {MAX_EXPANSION} times its "
                f"own size; got {archive}, which declares {total / 1e6:.0f} MB or more: this is "
                "no archive of nuScenes"
            )
        if member.isreg():
            yield member, path


def _write(source: IO[bytes] | None, path: Path) -> None:
    assert source is not None  # extractfile returns a file for plain files
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, sync=False) as file:
        shutil.copyfileobj(source, file, 1 << 20)


@contextlib.contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    """Lock a folder, so that only one process at a time unpacks into it."""
    descriptor = os.open(root, os.O_RDONLY) if _CAN_LOCK else None
    try:
        if descriptor is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(
                    f"only one process must unpack into {root}; got a second: wait for the first"
                ) from None
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _expect_space(root: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(root).free
    if needed + RESERVE_BYTES > free:
        raise OSError(
            f"disk of {root} must have {needed / 1e9:.1f} GB free for {what}, and "
            f"{RESERVE_BYTES / 1e9:.1f} GB in reserve; got {free / 1e9:.1f} GB: free some space, "
            "then run the same command again, which resumes where it stopped"
        )


def _read_record(root: Path) -> dict[str, Progress]:
    try:
        rows = read_json(root / RECORD_NAME, "record of unpacked archives")
        known = {str(name): Progress(**row) for name, row in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # no valid record: existing files are kept anyway
    valid = all(
        (type(p.size), type(p.mtime_ns), type(p.unpacked_bytes), type(p.done))
        == (int, int, int, bool)
        for p in known.values()
    )
    return known if valid else {}


def _progress(record: dict[str, Progress], archive: Path) -> Progress:
    state = archive.stat()
    known = record.get(archive.name)
    if known is not None and (known.size, known.mtime_ns) == (state.st_size, state.st_mtime_ns):
        return known
    return Progress(state.st_size, state.st_mtime_ns)
