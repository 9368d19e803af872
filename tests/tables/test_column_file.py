from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from bevstack.tables.column_file import ColumnFile, DamagedFileError, write_column_file

ARRAYS = {
    "a.bytes": np.arange(15, dtype=np.uint8).reshape(5, 3),
    "a.flags": np.array([True, False, True]),
    "b.numbers": np.linspace(-1.0, 1.0, 24).reshape(2, 3, 4),
    "b.rows": np.array([-1, 7], dtype=np.int32),
    "b.times": np.array([1_532_402_927_612_460], dtype=np.int64),
    "b.codes": np.array([3, 65_535], dtype=np.uint16),
    "b.empty": np.empty((0, 4)),
    "c.strided": np.arange(12, dtype=np.int64).reshape(3, 4)[:, ::2],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_column_file(tmp_path / "columns", ARRAYS, {"of": "test"})
    return tmp_path / "columns"


def test_written_arrays_are_read_back_unchanged(path: Path) -> None:
    file = ColumnFile(path)
    assert file.metadata["of"] == "test"
    arrays = file.arrays("")
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert set(file.arrays("a.")) == {"bytes", "flags"}


def test_the_safetensors_library_reads_the_same_arrays(path: Path) -> None:
    arrays = load_file(path)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_writing_to_an_array_does_not_change_the_file(path: Path) -> None:
    before = path.read_bytes()
    ColumnFile(path).arrays("b.")["numbers"][:] = 0.0
    assert path.read_bytes() == before
    np.testing.assert_array_equal(ColumnFile(path).arrays("b.")["numbers"], ARRAYS["b.numbers"])


def test_a_file_cut_off_anywhere_is_damaged(path: Path) -> None:
    data = path.read_bytes()
    for length in (*range(0, len(data), 7), len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(DamagedFileError):
            ColumnFile(path).arrays("")
    path.write_bytes(data + b"\0")
    with pytest.raises(DamagedFileError, match=f"{len(data) + 1} bytes instead of {len(data)}"):
        ColumnFile(path)


def test_every_changed_byte_is_detected(path: Path) -> None:
    data = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    for position in range(header, len(data)):
        changed = data.copy()
        changed[position] ^= 16
        path.write_bytes(changed)
        with pytest.raises(DamagedFileError, match="has a wrong checksum for"):
            ColumnFile(path).arrays("")


def test_a_damaged_header_raises_no_error_of_another_type(path: Path) -> None:
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(1500):
        changed = bytearray(data)
        for position in rng.integers(0, header, rng.integers(1, 4)):
            changed[position] = rng.choice(np.frombuffer(b'0189"[]{},:-ex ', dtype=np.uint8))
        path.write_bytes(changed)
        try:
            arrays = ColumnFile(path).arrays("")
        except DamagedFileError:
            continue
        for name in arrays.keys() & ARRAYS.keys():  # changed names or metadata change no value
            assert arrays[name].dtype == ARRAYS[name].dtype
            np.testing.assert_array_equal(arrays[name], ARRAYS[name])


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 100, b"\xff" * 100, b"PK\x03\x04" * 9])
def test_a_file_of_another_format_counts_as_damaged(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DamagedFileError):
        ColumnFile(path)


def test_a_missing_file_raises_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ColumnFile(tmp_path / "none")
