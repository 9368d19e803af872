"""Pickles of plain values and arrays are read; anything else is refused by name."""

from __future__ import annotations

import decimal
import pathlib
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from bevstack.interop.plain_pickle import read_plain_pickle
from tests.damages import damaged_copies

CONTENT = {
    "texts": ["a", "", "é"],
    "numbers": (1, -(2**70), 2.5, float("inf"), True, None),
    "bytes": (b"", b"\x00\xff"),
    "matrix": np.arange(6.0).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "strided": np.arange(9)[::2],
    "big endian": np.arange(3, dtype=">f4"),
    "half": np.array([1.5, np.nan], dtype=np.float16),
    "flags": np.array([True, False]),
    "names": np.array(["car", "vélo"]),
    "codes": np.array([b"ab", b"c"]),
    "no boxes": np.zeros((0, 7)),
    "no names": np.array([]),
    "single": np.array(3.5),
    7: {"inner": [np.uint8(200)]},
}


def write(folder: Path, content: object, protocol: int = 2) -> Path:
    path = folder / "infos.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def refusal(path: Path, longest_s: float = 5.0) -> str:
    """Return the one sentence that refuses a file, soon."""
    started = time.process_time()
    with pytest.raises(ValueError, match="info file must") as caught:
        read_plain_pickle(path, what="info file")
    assert time.process_time() - started < longest_s
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500 and str(path) in text
    return text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_values_and_arrays_equal_what_was_written(tmp_path: Path, protocol: int) -> None:
    read = read_plain_pickle(write(tmp_path, CONTENT, protocol), what="info file")
    assert isinstance(read, dict) and list(read) == list(CONTENT)
    for name, wanted in CONTENT.items():
        found = read[name]
        if isinstance(wanted, np.ndarray):
            assert type(found) is np.ndarray, name
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
            np.testing.assert_array_equal(found, wanted)
        else:
            assert found == wanted, name


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numbers_of_numpy_become_those_of_python(tmp_path: Path, protocol: int) -> None:
    content = {np.str_("key"): [np.int64(-3), np.float32(0.5), np.bool_(False), np.str_("ü")]}
    read = read_plain_pickle(write(tmp_path, content, protocol), what="info file")
    assert read == {"key": [-3, 0.5, False, "ü"]}
    assert [type(value) for value in read["key"]] == [int, float, bool, str]
    assert [type(key) for key in read] == [str]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_an_array_that_is_there_twice_is_read_twice(tmp_path: Path, protocol: int) -> None:
    array = np.arange(4)
    read = read_plain_pickle(write(tmp_path, [array, {"again": array}], protocol), what="info file")
    np.testing.assert_array_equal(read[1]["again"], array)
    assert read[0] is read[1]["again"]


class Attack:
    """Object whose pickle calls a function when Python's pickle reads it."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_by_name_and_not_run(tmp_path: Path, protocol: int) -> None:
    made = tmp_path / "made"
    for function, arguments, name in (
        (pathlib.Path, (str(made),), "Path"),
        (__import__("os").system, (f"touch {made}",), "system"),
        (eval, (f"open({str(made)!r}, 'w')",), "eval"),
        (np.fromfile, (str(made),), "fromfile"),
        (getattr, ("text", "join"), "getattr"),
    ):
        content = {"infos": [{"token": "a", "cams": {}, "extra": Attack(function, *arguments)}]}
        text = refusal(write(tmp_path, content, protocol))
        assert name in text and "nothing was run" in text
    assert not made.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (decimal.Decimal("1.5"), "decimal.Decimal"),
        (Path("a"), "Path"),
        (np.array([{}], dtype=object), "objects"),
        (np.zeros(2, dtype=[("a", "f4")]), "V4"),
        (np.array(["2026-01-01"], dtype="M8[D]"), "M8"),
        (np.array([1j]), "c16"),
        (np.ma.array([1.0]), "numpy.ma"),
        (np.zeros((600, 600)), "1 MiB"),
    ],
    ids=["decimal", "path", "objects", "fields", "dates", "complex", "masked", "large"],
)
def test_objects_of_other_classes_are_refused_by_name(
    tmp_path: Path, content: object, name: str
) -> None:
    assert name in refusal(write(tmp_path, {"infos": [content]}))


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
FLOATS = (
    b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8I00\nI01\ntR(K\x03X\x01\x00\x00\x00<NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


def array_pickle(shape: bytes, values: bytes, dtype: bytes = FLOATS) -> bytes:
    """Return the pickle of an array with any declared shape."""
    return b"\x80\x03" + ARRAY + b"(K\x01" + shape + dtype + b"\x89" + values + b"tb."


def test_shapes_that_the_values_do_not_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "infos.pkl"
    eight = b"C\x08" + struct.pack("<d", 2.5)
    path.write_bytes(array_pickle(b"K\x01\x85", eight))
    np.testing.assert_array_equal(read_plain_pickle(path, what="info file"), [2.5])
    huge = b"\x8a\x08" + struct.pack("<q", 2**40)
    for shape in (b"K\x02\x85", huge + b"\x85", huge + huge + b"\x86", b"J\xff\xff\xff\xff\x85"):
        path.write_bytes(array_pickle(shape, eight))
        refusal(path)
    for shape in (b"N", b"X\x01\x00\x00\x00a\x85", b"\x88\x85"):
        path.write_bytes(array_pickle(shape, eight))
        refusal(path)
    nameless = FLOATS.replace(b"f8", b"f9")
    path.write_bytes(array_pickle(b"K\x01\x85", eight, nameless))
    assert "f9" in refusal(path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x04",
        b"\x80\x04.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x80\x04h\x07.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
        b"\x80\x03" + ARRAY + b"K\x01b.",
        b"\x80\x03" + ARRAY[:-1] + b"\x81\x81.",
        b"\x80\x03cbuiltins\nset\n(K\x01tR.",
        b"\x80\x03c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
        b"(lp0\n"
        + b"(I1\nI2\nta" * 10_000
        + b"".join(b"ccollections\nOrderedDict\n(g0\ntR" for _ in range(3000))
        + b".",
    ],
    ids=lambda pickled: f"{len(pickled)} bytes",
)
def test_damaged_and_endless_pickles_end_soon_in_one_sentence(
    tmp_path: Path, pickled: bytes
) -> None:
    path = tmp_path / "infos.pkl"
    path.write_bytes(pickled)
    refusal(path, longest_s=20.0)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"metainfo": {}}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 99\n", "Git LFS"),
        (b"", "empty file"),
        (b"\x1f\x8b\x08\x00" + bytes(100), "gzip"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "infos.pkl"
    path.write_bytes(content)
    assert kind in refusal(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"info file must be a file; got .*none\.pkl"):
        read_plain_pickle(tmp_path / "none.pkl", what="info file")


def test_every_damage_is_one_sentence_or_read(tmp_path: Path) -> None:
    path = write(tmp_path, CONTENT)
    refused = 0
    for content in damaged_copies(path.read_bytes(), 400, seed=3):
        path.write_bytes(content)
        try:
            read_plain_pickle(path, what="info file")
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 500 and str(path) in str(error)
    assert refused > 100
