"""Strict JSON: each fault that Python's reader hides or ends in a traceback is one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bevstack.json_files import (
    expect_field,
    expect_flag,
    expect_integer,
    expect_list,
    expect_number,
    expect_numbers,
    expect_object,
    expect_text,
    parse_json,
    read_json,
    shorten,
)

BAD_TEXTS = [
    ('{"a": ', "Expecting value at byte 6 of 6 in the test: the file is cut off or damaged"),
    ("[" * 100_000, "got too many nested lists or objects in the test"),
    ('{"a":' * 100_000, "got too many nested lists or objects in the test"),
    ("[NaN]", "got NaN, which is not finite, in the test"),
    ("[-Infinity]", "got -Infinity, which is not finite, in the test"),
    ("[1e999]", "got the number 1e999, which is too large, in the test"),
    (f"[-{'9' * 20}]", "got a whole number of 20 digits in the test"),
    (f"[{'9' * 10_000}]", "got a whole number of 10000 digits in the test"),
    ('{"a": {"b": 1, "c": 2, "b": 1}}', "got the key 'b' twice in one object in the test"),
    (b'{"a": "\xff"}', "thing must be UTF-8 text; got invalid start byte at byte 7 in the test"),
    ("[1]\0", "Extra data at byte 3 of 4"),
    ('["a\nb"]', "Invalid control character at"),
]


@pytest.mark.parametrize(("text", "message"), BAD_TEXTS)
def test_a_bad_text_is_refused_in_one_sentence(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match="thing must be") as error:
        parse_json(text, "thing", place=" in the test")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_values_are_those_of_the_library_whatever_the_number() -> None:
    text = '{"a": [1, -2.5e-3, 9223372036854775807, true, null, "\\u00fc"], "b": {}}'
    expected = {"a": [1, -0.0025, 2**63 - 1, True, None, "\u00fc"], "b": {}}
    for data in (text, text.encode(), b"\xef\xbb\xbf" + text.encode()):
        assert parse_json(data, "thing") == expected
    values = parse_json("[NaN, 1e999, " + "9" * 30 + "]", "thing", allow_nan=True)
    assert np.isnan(values[0]) and values[1:] == [float("inf"), int("9" * 30)]
    assert parse_json('{"a": 1, "a": 2}', "thing", unique_keys=False) == {"a": 2}


def test_a_file_is_read_up_to_its_size_and_a_missing_one_has_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read_json(path, "thing") == {"a": 1}
    with pytest.raises(FileNotFoundError, match=r"thing must exist; got no file .*b: make it"):
        read_json(tmp_path / "b", "thing", remedy="make it")
    with pytest.raises(ValueError, match=r"thing must have at most 4 bytes; got 8 in .*a\.json"):
        read_json(path, "thing", max_bytes=4)


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (expect_flag, "false", "x must be true or false; got 'false'"),
        (expect_flag, 0, "x must be true or false; got 0"),
        (expect_flag, None, "x must be true or false; got None"),
        (expect_text, 5, "x must be a text; got 5"),
        (expect_text, "", "x must be 1 to 1024 printable characters; got ''"),
        (expect_text, "a\0b", r"x must be 1 to 1024 printable characters; got 'a\\x00b'"),
        (expect_text, "a\nb", "printable characters"),
        (expect_text, "\ud800", "printable characters"),
        (expect_text, "n" * 5000, "printable characters"),
        (expect_integer, True, "x must be a whole number; got True"),
        (expect_integer, 1.0, "x must be a whole number; got 1.0"),
        (expect_integer, "1", "x must be a whole number; got '1'"),
        (expect_integer, 2**63, "x must be from -9223372036854775808 to"),
        (expect_number, True, "x must be a number; got True"),
        (expect_number, "0.5", "x must be a number; got '0.5'"),
        (expect_number, float("nan"), "x must be finite; got nan"),
        (expect_number, 10**400, "x must be finite; got 1000"),
        (expect_number, [1.0], r"x must be a number; got \[1.0\]"),
        (expect_object, [], r"x must be a JSON object; got \[\]"),
        (expect_list, {}, r"x must be a list; got \{\}"),
    ],
)
def test_a_value_of_another_kind_is_named(check, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check("x", value)


def test_numbers_are_checked_one_by_one() -> None:
    np.testing.assert_array_equal(
        expect_numbers("x", [[1, 2.5], [3, 4]], (2, 2)), [[1, 2.5], [3, 4]]
    )
    assert expect_numbers("x", 2, ()) == 2.0
    assert expect_flag("x", True) and expect_integer("x", 3, low=0) == 3
    for value, message in (
        ([1, 2], "x must be 3 numbers; got 2: \\[1, 2\\]"),
        ("123", "x must be 3 numbers; got '123'"),
        ([1, "2", 3], "x\\[1\\] must be a number; got '2'"),
        ([1, 2, False], "x\\[2\\] must be a number; got False"),
    ):
        with pytest.raises(ValueError, match=message):
            expect_numbers("x", value, (3,))
    with pytest.raises(ValueError, match="must have the field 'b'"):
        expect_field("x", {"a": 1}, "b")


def test_a_message_quotes_at_most_a_short_part_of_a_value() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "a" * 10**6, list(range(10**5)), 10**10_000, {"a": "x\n" * 50}):
        assert len(shorten(value)) < 200 and "\n" not in shorten(value)


def test_lists_of_lists_of_texts_are_shortened() -> None:
    assert len(shorten([[["a" * 100] * 9] * 9] * 9)) <= 503
