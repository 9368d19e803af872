from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from bevstack.datasets.readiness import archives
from bevstack.datasets.readiness.archives import RECORD_NAME, find_archives, unpack_archives

PROGRAM = Path(__file__).resolve().parents[3] / "data/prepare_nuscenes.py"
Usage = namedtuple("Usage", "total used free")


def _content(count: int = 30, seed: int = 0) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    files = {f"samples/CAM_{k % 3}/{seed}_{k}.jpg": rng.bytes(5000 + 100 * k) for k in range(count)}
    return {**files, f"v1.0-mini/table{seed}.json": b"[]", f"maps/{seed}.png": b""}


def _pack(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    mode = "w" if path.suffix == ".tar" else "w:gz"
    with tarfile.open(path, mode) as tar:
        folder = tarfile.TarInfo("./samples")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for member in extra:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mode = len(data), 0o600
            tar.addfile(member, io.BytesIO(data))
    return path


def _files(root: Path) -> dict[str, bytes]:
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and p.name != RECORD_NAME
    }


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Write a folder with three small archives."""
    (tmp_path / "shelf").mkdir()
    _pack(tmp_path / "shelf/v1.0-mini_meta.tgz", _content(seed=1))
    _pack(tmp_path / "shelf/v1.0-mini_blobs.tar.gz", _content(seed=2))
    _pack(tmp_path / "shelf/other.tar", _content(seed=3))
    return tmp_path / "shelf"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "nuscenes"


WHOLE = {**_content(seed=1), **_content(seed=2), **_content(seed=3)}


def test_all_archives_of_a_folder_are_unpacked(shelf: Path, root: Path) -> None:
    (shelf / "notes.txt").write_text("not an archive")
    lines: list[str] = []
    unpack_archives(find_archives(shelf), root, lines.append)
    assert _files(root) == WHOLE
    assert lines[0] == "other.tar: 32 files written, 0 already present"
    lines.clear()
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*.jpg")}
    unpack_archives(find_archives(shelf), root, lines.append)
    assert lines == [f"{p.name}: unpacked before" for p in find_archives(shelf)]
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*.jpg")} == before


def test_existing_files_are_kept_and_truncated_ones_are_written_again(
    shelf: Path, root: Path
) -> None:
    unpack_archives(find_archives(shelf), root, lambda _: None)
    (root / RECORD_NAME).unlink()
    (root / "samples/CAM_0/1_0.jpg").write_bytes(b"cut")
    (root / "samples/CAM_1/2_1.jpg").unlink()
    lines: list[str] = []
    unpack_archives(find_archives(shelf), root, lines.append)
    assert [line.partition(": ")[2] for line in lines] == [
        "0 files written, 32 already present",
        "1 files written, 31 already present",
        "1 files written, 31 already present",
    ]
    assert _files(root) == WHOLE


def test_an_archive_that_changed_is_unpacked_again(shelf: Path, root: Path) -> None:
    unpack_archives(find_archives(shelf), root, lambda _: None)
    _pack(shelf / "other.tar", _content(seed=4))
    unpack_archives(find_archives(shelf), root, lambda _: None)
    assert _files(root) == {**WHOLE, **_content(seed=4)}


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["v1.0-mini_meta.tgz", "other.tar"])
def test_a_truncated_archive_leaves_whole_files_and_resumes_when_it_is_whole(
    shelf: Path, root: Path, kept: float, name: str
) -> None:
    whole = (shelf / name).read_bytes()
    if name == "other.tar":
        whole = whole.rstrip(b"\0")  # the rest is padding
    (shelf / name).write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=rf"must be a whole tar file; got .*{name}, which is dam"):
        unpack_archives([shelf / name], root, lambda _: None)
    found = _files(root)
    assert len(found) > 0 and all(WHOLE[path] == data for path, data in found.items())
    _pack(shelf / name, _content(seed=1 if "meta" in name else 3))
    lines: list[str] = []
    unpack_archives([shelf / name], root, lines.append)
    assert _files(root) == _content(seed=1 if "meta" in name else 3)
    assert lines == [f"{name}: {32 - len(found)} files written, {len(found)} already present"]


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, root: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(b"<html>please log in</html>" * 100)
    with pytest.raises(ValueError, match=r"must be a whole tar file; got .*a\.tgz"):
        unpack_archives([tmp_path / "a.tgz"], root, lambda _: None)
    with pytest.raises(FileNotFoundError, match=r"must be \*\.tar, \*\.tgz, \*\.tar\.gz in"):
        find_archives(root)


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    member.size = 3 if kind == tarfile.REGTYPE else 0
    return member


@pytest.mark.parametrize(
    "member",
    [
        _member("../outside.jpg"),
        _member("samples/../../outside.jpg"),
        _member("/outside.jpg"),
        _member("samples/link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        _member("samples/hard.jpg", tarfile.LNKTYPE, "../../etc/passwd"),
        _member("samples/pipe", tarfile.FIFOTYPE),
        _member("samples/device", tarfile.CHRTYPE),
    ],
    ids=lambda member: member.name.replace("/", "|"),
)
def test_nothing_but_plain_files_inside_the_root_is_written(
    tmp_path: Path, root: Path, member: tarfile.TarInfo
) -> None:
    archive = _pack(tmp_path / "bad.tgz", {}, member)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(
        ValueError, match=r"must hold plain files and folders inside the root only; got '"
    ):
        unpack_archives([archive], root, lambda _: None)
    assert set(tmp_path.rglob("*")) - before == {root, root / RECORD_NAME}


def test_no_link_in_the_root_leads_outside(tmp_path: Path, shelf: Path, root: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    root.mkdir()
    (root / "samples").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="must hold plain files and folders inside the root only"):
        unpack_archives(find_archives(shelf), root, lambda _: None)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_too_little_space_is_an_error_before_and_during_unpacking(
    shelf: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sum(path.stat().st_size for path in find_archives(shelf))
    free = [needed + archives.RESERVE_BYTES - 1]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, free.pop(0)))
    with pytest.raises(
        OSError, match=r"GB free for 3 archives, and 0\.3 GB in reserve; got 0\.3 GB"
    ):
        unpack_archives(find_archives(shelf), root, lambda _: None)
    assert _files(root) == {}
    free += [10**11] * 8 + [archives.RESERVE_BYTES]
    with pytest.raises(OSError, match=r"GB free for \S+\.jpg, .* resumes where it stopped"):
        unpack_archives(find_archives(shelf), root, lambda _: None)
    assert len(_files(root)) == 7
    # No space is required for the files that exist.
    free += [needed - 7 * 5000 + archives.RESERVE_BYTES] + [10**11] * 99
    unpack_archives(find_archives(shelf), root, lambda _: None)
    assert _files(root) == WHOLE


def test_a_killed_run_leaves_no_partial_file_and_can_be_resumed(tmp_path: Path, root: Path) -> None:
    rng = np.random.default_rng(0)
    files = {f"samples/CAM_A/{k}.jpg": rng.bytes(400_000) for k in range(150)}
    (tmp_path / "shelf").mkdir()
    _pack(tmp_path / "shelf/large.tgz", files)
    command = [sys.executable, PROGRAM, root, "--from-archives", tmp_path / "shelf"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while time.monotonic() < until and not (root / "samples/CAM_A/5.jpg").is_file():
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    found = {n: d for n, d in _files(root).items() if not Path(n).name.startswith(".")}
    assert len(found) >= 5 and all(files[name] == data for name, data in found.items())
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert _files(root) == files
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.stdout == "large.tgz: unpacked before\n"


def test_the_program_prints_errors_in_a_sentence(tmp_path: Path, root: Path) -> None:
    command = [sys.executable, PROGRAM, root, "--from-archives", tmp_path / "none"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("prepare_nuscenes: error: archives must be *.tar")
    done = subprocess.run([sys.executable, PROGRAM, root], capture_output=True, text=True)
    assert done.returncode == 2 and "--version or --from-archives" in done.stderr


def test_two_processes_do_not_unpack_into_one_folder(shelf: Path, root: Path) -> None:
    def second(_: str) -> None:
        with pytest.raises(OSError, match="only one process must unpack into"):
            unpack_archives(find_archives(shelf), root, print)

    unpack_archives(find_archives(shelf), root, second)
    assert _files(root) == WHOLE
