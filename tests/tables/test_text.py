from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bevstack.tables.fields import Names, Paths, Text, Tokens
from bevstack.tables.text import CodedText, HexText, PathText, PlainText, TextColumn, text_column

HEX = [f"{k:032x}" for k in (0xFEED, 1 << 127, 7, 0xABCDEF)]
STRINGS = {
    "plain": (Text(), PlainText, ["", "ä und ö", "three", "a b c d e"]),
    "names": (Names(), CodedText, ["car", "bus", "car", "", "bus"]),
    "tokens": (Tokens(), HexText, [*HEX, "", HEX[0]]),
    "odd tokens": (Tokens(), PlainText, ["1", "22", "", HEX[0].upper()]),
    "zero token": (Tokens(), PlainText, ["", "0" * 32, HEX[0]]),
    "paths": (Paths(), PathText, ["s/A/n1__A__17.jpg", "s/B/n1__B__180.jpg", "s/A/n1__A__5.jpg"]),
    "odd paths": (Paths(), PathText, ["s/A/1.jpg", "__2.jpg", "s__", ""]),
}


@pytest.fixture(params=list(STRINGS))
def case(request: pytest.FixtureRequest) -> tuple[TextColumn, list[str]]:
    """Return a column joined from two chunks, and its strings."""
    field, kind, strings = STRINGS[request.param]
    column = field.join([field.pack(strings[:2]), field.pack(strings[2:])])
    assert isinstance(column, kind)
    return column, strings


@pytest.mark.parametrize(
    "key",
    [0, -1, np.int32(1), slice(1, None), slice(None, None, -1), [2, 0, 0], np.array([], int)],
    ids=repr,
)
def test_a_column_is_indexed_like_an_array_of_strings(
    case: tuple[TextColumn, list[str]], key: object
) -> None:
    column, strings = case
    expected = np.array(strings)[key]  # type: ignore[call-overload]
    np.testing.assert_array_equal(column[key], expected)
    assert isinstance(column[key], type(expected))


def test_a_column_is_compared_listed_and_masked_like_an_array_of_strings(
    case: tuple[TextColumn, list[str]],
) -> None:
    column, strings = case
    array = np.array(strings)
    assert len(column) == len(strings) and column.shape == array.shape
    assert column.tolist() == list(column) == strings
    np.testing.assert_array_equal(np.asarray(column), array)
    for string in (*strings, "nothing"):
        np.testing.assert_array_equal(column == string, array == string)
        np.testing.assert_array_equal(column != string, array != string)
        np.testing.assert_array_equal(np.isin(column, [string]), array == string)
    mask = array != strings[1]
    np.testing.assert_array_equal(column[mask], array[mask])
    np.testing.assert_array_equal(column == array, [True] * len(strings))


def test_a_column_is_restored_from_its_arrays(case: tuple[TextColumn, list[str]]) -> None:
    column, strings = case
    copy = text_column({name: array.copy() for name, array in column.arrays().items()})
    assert type(copy) is type(column)
    assert copy.tolist() == strings
    assert column.select(np.array([2, 1])).tolist() == [strings[2], strings[1]]


def test_a_row_outside_the_column_is_refused(case: tuple[TextColumn, list[str]]) -> None:
    column, strings = case
    for row in (len(strings), -len(strings) - 1):
        with pytest.raises(
            IndexError, match=f"within the {len(strings)} rows of the column; got {row}"
        ):
            column[row]


@pytest.mark.parametrize("make", [Text, Names, Tokens, Paths])
def test_a_column_may_be_empty(make: Callable[[], Text]) -> None:
    for chunks in ([], [make().pack([])]):
        column = make().join(chunks)
        assert len(column) == 0 and column.tolist() == []
        assert np.asarray(column).shape == (0,)


def test_a_million_tokens_and_file_names_take_few_bytes() -> None:
    tokens = HexText.pack(HEX * 1000)
    assert tokens is not None and tokens.nbytes == 16 * 4000
    names = [f"sweeps/CAM_FRONT/n015-2018__CAM_FRONT__{k:016}.jpg" for k in range(4000)]
    paths = Paths().join([Paths().pack(names)])
    assert sum(array.nbytes for array in paths.arrays().values()) < 22 * 4000
    assert paths.tolist() == names


def test_conversion_to_an_array_requires_a_copy() -> None:
    with pytest.raises(ValueError, match="must be copied"):
        PlainText.from_strings(["a"]).__array__(copy=False)
