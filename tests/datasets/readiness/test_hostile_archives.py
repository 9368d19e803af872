"""Archives that are damaged where tarfile does not look, or made to do harm."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import tarfile
from pathlib import Path

import pytest

from bevstack.datasets.readiness import tar_stream
from bevstack.datasets.readiness.archives import RECORD_NAME, unpack_archives
from bevstack.datasets.readiness.file_checks import check_versions
from tests.small_world import SPEC, small_world

BLOCK = tarfile.BLOCKSIZE


def _silent(_: str) -> None:
    """Report nothing."""


def _tar(files: dict[str, bytes], **fields: object) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def _write(path: Path, tar: bytes) -> Path:
    path.write_bytes(tar if path.suffix == ".tar" else gzip.compress(tar, mtime=0))
    return path


FILES = {f"samples/CAM_FRONT/{k}.jpg": bytes([k + 1]) * 700 for k in range(8)}


def _is_done(root: Path) -> bool:
    return any(entry["done"] for entry in json.loads((root / RECORD_NAME).read_text()).values())


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
@pytest.mark.parametrize("lost", ["bit", "block", "header"])
def test_a_damaged_header_is_no_end(tmp_path: Path, suffix: str, lost: str) -> None:
    tar = bytearray(_tar(FILES))
    header = 3 * 3 * BLOCK  # of the fourth member: a header and two blocks each
    assert tar[header : header + 9] == b"samples/C"
    if lost == "bit":
        tar[header + 20] ^= 4
    elif lost == "header":
        tar[header : header + BLOCK] = bytes(BLOCK)
    else:
        tar[header : header + 4 * BLOCK] = bytes(4 * BLOCK)
    archive = _write(tmp_path / f"a{suffix}", bytes(tar))
    root = tmp_path / "root"
    for _ in range(2):  # it is not noted as done
        with pytest.raises(ValueError, match=r"must be a whole tar file; got .*after 3 files"):
            unpack_archives([archive], root, _silent)
    assert not _is_done(root)
    assert len(list(root.rglob("*.jpg"))) == 3
    _write(archive, _tar(FILES))
    unpack_archives([archive], root, _silent)
    assert {p.relative_to(root).as_posix() for p in root.rglob("*.jpg")} == set(FILES)


def test_no_single_flipped_bit_of_a_header_loses_a_member_silently(tmp_path: Path) -> None:
    tar = _tar(FILES)
    rng = random.Random(0)
    for trial in range(60):
        changed = bytearray(tar)
        bit = rng.randrange(8 * BLOCK) + 8 * 3 * BLOCK * rng.randrange(len(FILES))
        changed[bit // 8] ^= 1 << bit % 8
        archive = _write(tmp_path / "a.tar", bytes(changed))
        root = tmp_path / str(trial)
        with pytest.raises(ValueError, match="archive must "):
            unpack_archives([archive], root, _silent)
        assert not _is_done(root)


def test_a_flipped_bit_in_the_content_of_a_gzipped_archive_is_noticed(tmp_path: Path) -> None:
    raw = bytearray(gzip.compress(_tar(FILES), compresslevel=0, mtime=0))  # stored, so it inflates
    raw[raw.index(bytes([3]) * 600) + 100] ^= 1
    (tmp_path / "a.tgz").write_bytes(raw)
    with pytest.raises(ValueError, match=r"must be a whole tar file; got .*CRC check failed"):
        unpack_archives([tmp_path / "a.tgz"], tmp_path / "root", _silent)
    assert not _is_done(tmp_path / "root")


def test_a_link_named_like_a_temporary_file_is_not_followed(tmp_path: Path) -> None:
    root, victim = tmp_path / "root", tmp_path / "victim"
    (root / "samples/CAM_FRONT").mkdir(parents=True)
    victim.write_text("mine")
    for name in (".0.jpg.part", ".0.jpg", "0.jpg"):
        (root / "samples/CAM_FRONT" / name).symlink_to(victim)
    unpack_archives([_write(tmp_path / "a.tar", _tar(FILES))], root, _silent)
    assert victim.read_text() == "mine"
    assert (root / "samples/CAM_FRONT/0.jpg").read_bytes() == FILES["samples/CAM_FRONT/0.jpg"]
    assert not (root / "samples/CAM_FRONT/0.jpg").is_symlink()


@pytest.mark.parametrize(
    "name",
    ["d/" * 2000 + "x.jpg", "d/" * 40 + "x.jpg", "x" * 300, "a\\..\\..\\x", "C:/x", "a/\0b"],
    ids=["2000 deep", "40 deep", "long", "backslash", "drive", "nul"],
)
def test_a_member_with_an_impossible_name_is_refused(tmp_path: Path, name: str) -> None:
    if "\0" in name:  # tarfile writes such a name only in a header of the pax format
        tar = _tar({"a": b"x"}, pax_headers={"path": name})
    else:
        tar = _tar({name: b"x"})
    root = tmp_path / "root"
    with pytest.raises(ValueError, match="plain files and folders inside the root only") as caught:
        unpack_archives([_write(tmp_path / "a.tgz", tar)], root, _silent)
    assert len(str(caught.value)) < 700
    assert [path.name for path in root.rglob("*")] == [RECORD_NAME]


def test_links_in_the_root_that_form_a_loop_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "samples").symlink_to("samples")
    with pytest.raises((ValueError, OSError), match=r"archive must |samples"):
        unpack_archives([_write(tmp_path / "a.tar", _tar(FILES))], root, _silent)


def test_an_archive_that_expands_without_bound_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_stream, "MIN_LIMIT_BYTES", 1 << 20)
    bomb = _write(tmp_path / "a.tgz", _tar({"samples/zeros.jpg": bytes(1 << 24)}))
    assert bomb.stat().st_size < 1 << 16
    with pytest.raises(ValueError, match=r"must unpack to at most 1 MB, 50 times its own size"):
        unpack_archives([bomb], tmp_path / "root", _silent)
    assert not list((tmp_path / "root").rglob("*.jpg"))


@pytest.mark.parametrize("kind", ["headers", "folders"])
def test_bombs_of_headers_are_bounded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(tar_stream, "MIN_LIMIT_BYTES", 1 << 20)
    if kind == "headers":
        tar = _tar({"a": b""}, pax_headers={"comment": "x" * (1 << 22)})
    else:
        tar = _tar({f"samples/{k}": b"" for k in range(5000)}, type=tarfile.DIRTYPE)
    with pytest.raises(ValueError, match=r"unpacks to more than 1 MB"):
        unpack_archives([_write(tmp_path / "a.tgz", tar)], tmp_path / "root", _silent)


@pytest.mark.parametrize("second", ["a/b", "a"])
def test_a_path_that_is_a_file_and_a_folder_is_refused(tmp_path: Path, second: str) -> None:
    root = tmp_path / "root"
    if second == "a":
        (root / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"each path either a file or a folder; got .*a"):
        unpack_archives(
            [_write(tmp_path / "a.tar", _tar({"a": b"x", second: b"xy"}))], root, _silent
        )


def test_a_record_of_another_kind_is_ignored(tmp_path: Path) -> None:
    archive = _write(tmp_path / "a.tar", _tar(FILES))
    root = tmp_path / "root"
    root.mkdir()
    state = archive.stat()
    for text in (
        "[" * 100_000,
        json.dumps({"a.tar": {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "done": "no"}}),
        json.dumps({"a.tar": {"size": 1, "mtime_ns": 1, "unpacked_bytes": "x"}}),
        json.dumps([1]),
    ):
        (root / RECORD_NAME).write_text(text)
        unpack_archives([archive], root, _silent)
        assert len(list(root.rglob("*.jpg"))) == len(FILES)
        shutil.rmtree(root / "samples")


def test_unpacked_files_are_counted_against_the_tables(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = Path(small_world(tmp_path_factory))
    names = sorted(p for p in world.rglob("*") if p.is_file())
    files = {p.relative_to(world).as_posix(): p.read_bytes() for p in names}
    images = [name for name in files if name.startswith("samples/CAM_BACK/")]
    root = tmp_path / "root"
    whole = _write(tmp_path / "whole.tar", _tar(files))
    unpack_archives([whole], root, _silent)
    assert not [finding for finding in check_versions(root) if finding.matters]
    (root / images[0]).unlink()
    (root / images[1]).unlink()
    (finding,) = (finding for finding in check_versions(root) if finding.matters)
    assert finding.sentence.startswith(f"{SPEC.version}: all ")
    assert images[0] in finding.sentence and "and 1 more" in finding.sentence
