from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from bevstack.tables import cache
from bevstack.tables.cache import FILE_NAME
from bevstack.tables.reader import Tables
from bevstack.tables.records import RECORDS
from tests.tables.tiny_root import VERSION, read_table, write_tables, write_tiny_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return write_tiny_root(tmp_path / "root")


def _assert_equal(tables: Tables, expected: Tables) -> None:
    for name, kind in RECORDS.items():
        for field in fields(kind):
            column, wanted = (getattr(getattr(t, name), field.name) for t in (tables, expected))
            assert type(column) is type(wanted)
            np.testing.assert_array_equal(
                np.asarray(column), np.asarray(wanted), err_msg=field.name
            )
            assert np.asarray(column).dtype == np.asarray(wanted).dtype


def _open(root: Path) -> Tables:
    """Open the tables with warnings as errors, so that a rebuild of the cache fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tables = Tables(root, VERSION, cache=True)
        for name in RECORDS:
            getattr(tables, name)
    return tables


def _forbid_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr("bevstack.tables.sources.TableColumns", refuse)


def test_cached_columns_equal_the_parsed_tables(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Tables(root, VERSION, cache=False)
    _assert_equal(_open(root), wanted)
    assert (root / VERSION / FILE_NAME).is_file()
    _forbid_parsing(monkeypatch)
    _assert_equal(_open(root), wanted)
    tables = _open(root)
    assert tables.annotations_of(2).tolist() == wanted.annotations_of(2).tolist()
    assert tables.keyframes_of(3).tolist() == wanted.keyframes_of(3).tolist()


def test_small_tables_are_not_cached(root: Path) -> None:
    assert len(Tables(root, VERSION).annotations.token)
    assert not list(root.rglob("*.safetensors"))


def test_large_tables_are_cached_by_default(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CACHE_FROM_BYTES", 1000)
    assert len(Tables(root, VERSION, cache=False).scenes.token)
    assert not list(root.rglob("*.safetensors"))
    assert len(Tables(root, VERSION).scenes.token)
    assert list(root.rglob("*.safetensors")) == [root / VERSION / FILE_NAME]


@pytest.mark.parametrize("same_size", [True, False])
def test_the_cache_is_rebuilt_after_a_table_changes(root: Path, same_size: bool) -> None:
    _open(root)
    rows = read_table(root, "sample_annotation")
    rows[0]["size"][0] = 9.9 if same_size else 9.875
    path = root / VERSION / "sample_annotation.json"
    before = path.stat()
    write_tables(root, {"sample_annotation": rows})
    assert (path.stat().st_size == before.st_size) is same_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert _open(root).annotations.size[0, 0] == rows[0]["size"][0]
    _assert_equal(_open(root), Tables(root, VERSION, cache=False))


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "one bit"])
def test_a_damaged_cache_is_rebuilt_with_a_warning(root: Path, damage: str) -> None:
    _open(root)
    path = root / VERSION / FILE_NAME
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    content = {"cut": data[:-100], "empty": b"", "garbage": b"\x80" * 5000, "one bit": data}
    path.write_bytes(content[damage])
    tables = Tables(root, VERSION, cache=True)
    with pytest.warns(UserWarning, match=rf"{VERSION}: the column cache is rebuilt"):
        for name in RECORDS:
            getattr(tables, name)
    wanted = Tables(root, VERSION, cache=False)
    _assert_equal(tables, wanted)
    _assert_equal(_open(root), wanted)


def test_read_only_tables_are_cached_in_the_users_cache_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Tables(root, VERSION, cache=False)
    (root / VERSION).chmod(0o555)
    _assert_equal(_open(root), wanted)
    (path,) = tmp_path.rglob("*.safetensors")
    assert path.parent == tmp_path / "xdg/bevstack/tables"
    _forbid_parsing(monkeypatch)
    _assert_equal(_open(root), wanted)
    (root / VERSION).chmod(0o755)


def test_tables_are_parsed_if_the_cache_cannot_be_written(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_column_file", full)
    tables = Tables(root, VERSION, cache=True)
    with pytest.warns(UserWarning, match="cannot be written; .*No space left"):
        _ = tables.scenes
    _assert_equal(tables, Tables(root, VERSION, cache=False))
    assert not list(root.rglob("*.safetensors"))


def test_tables_are_parsed_if_the_temporary_folder_is_full(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(root))

    monkeypatch.setattr(cache, "scratch_folder", no_space)
    with pytest.warns(
        UserWarning, match=f"cannot be built; .*No space left on device: '{re.escape(str(root))}'"
    ):
        _assert_equal(Tables(root, VERSION, cache=True), Tables(root, VERSION, cache=False))


def test_a_table_that_cannot_be_read_is_an_error_with_or_without_a_cache(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path, *_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("bevstack.tables.sources.TableColumns", unreadable)
    with (
        pytest.warns(UserWarning, match="cannot be built; .*Input/output error"),
        pytest.raises(OSError, match="Input/output error"),
    ):
        _ = Tables(root, VERSION, cache=True).annotations


def test_a_damaged_table_is_an_error_only_if_it_is_needed(root: Path) -> None:
    path = root / VERSION / "sample_annotation.json"
    path.write_bytes(path.read_bytes()[:-9])
    tables = Tables(root, VERSION, cache=True)
    assert len(tables.keyframes.token) == 4 * 7 + 3 * 5
    with pytest.raises(ValueError, match=r"sample_annotation\.json must be JSON"):
        _ = tables.annotations
    assert not list(root.rglob("*.safetensors"))


def test_this_process_builds_the_record_that_a_failed_subprocess_could_not(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Tables(root, VERSION, cache=False)
    monkeypatch.setattr(cache, "_SUBPROCESS_PROGRAM", "raise SystemExit(1)")
    _assert_equal(_open(root), wanted)


def test_a_copy_in_another_process_opens_the_tables_again(root: Path) -> None:
    tables = _open(root)
    data = pickle.dumps(tables)
    assert len(data) < 1000
    program = (
        "import pickle, sys\n"
        "tables = pickle.loads(sys.stdin.buffer.read())\n"
        "print(len(tables.annotations.token), type(tables._records).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True)
    assert done.stdout.split() == [b"%d" % len(tables.annotations.token), b"CachedRecords"]


def test_concurrent_processes_build_the_cache_once_and_all_read_it(root: Path) -> None:
    program = (
        "import sys\n"
        "from bevstack.tables import cache\n"
        "from bevstack.tables.reader import Tables\n"
        "built, write = [], cache.write_column_file\n"
        "def count(*arguments):\n"
        "    built.append(arguments[0])\n"
        "    write(*arguments)\n"
        "cache.write_column_file = count\n"
        "sys.stdin.read()\n"
        f"tables = Tables({str(root)!r}, {VERSION!r}, cache=True)\n"
        "print(tables.annotations.translation.sum(), tables.keyframes.token[-1], len(built))\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = [subprocess.Popen([sys.executable, "-c", program], **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for process in running:
        process.stdin.close()  # all processes wait for this, so they start almost together
    outputs = [process.stdout.read().split() for process in running]
    errors = [process.stderr.read() for process in running]
    assert [process.wait() for process in running] == [0, 0, 0], errors
    assert errors == [b""] * 3
    tables = Tables(root, VERSION, cache=False)
    for output in outputs:
        assert float(output[0]) == tables.annotations.translation.sum()
        assert output[1].decode() == tables.keyframes.token[-1]
    assert sum(int(output[2]) for output in outputs) == 1
    assert [p.name for p in (root / VERSION).iterdir() if "columns" in p.name] == [FILE_NAME]


def test_a_moved_root_keeps_its_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _open(root)
    moved = Path(shutil.move(root, root.with_name("moved")))
    wanted = Tables(moved, VERSION, cache=False)
    _ = [getattr(wanted, name) for name in RECORDS]
    _forbid_parsing(monkeypatch)
    _assert_equal(_open(moved), wanted)
