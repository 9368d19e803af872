from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bevstack.tables import columns
from bevstack.tables.columns import TableColumns
from bevstack.tables.fields import Field, Flags, Floats, Integers, Names, Paths, Text, Tokens

FIELDS: dict[str, Field] = {
    "word": Text(),
    "kind": Names(),
    "file": Paths(),
    "count": Integers(),
    "height": Integers(or_null=True),
    "is_key": Flags(),
    "place": Floats(3),
    "matrix": Floats(2, 3, finite=False),
    "other": Tokens(),
}
# Strings that look like the gap between two rows, hold quotation marks, or are not ASCII.
NASTY = ['}, {"token": ', "}, {", 'say "}, {\\"x": 1}"', "äöü€", "", "\\", "[{", "line\nbreak"]


def _rows(count: int, seed: int = 0) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "token": rng.bytes(16).hex(),
            "extra": {"nested": [{"a": 1}, {"a": 2}]} if k % 7 == 3 else None,
            "word": NASTY[int(rng.integers(len(NASTY)))] + str(k),
            "kind": NASTY[k % 3],
            "file": f"sweeps/A/log{k % 2}__A__{k * k}.jpg",
            "count": int(rng.integers(-5, 2**62)),
            "height": None if k % 2 else 900,
            "is_key": bool(k % 3),
            "place": rng.normal(size=3).tolist() if k % 2 else [1, 2, 3],
            "matrix": [] if k % 2 else rng.normal(size=(2, 3)).tolist(),
            "other": "" if k % 5 == 0 else rng.bytes(16).hex(),
        }
        for k in range(count)
    ]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("chunk_bytes", [64, 1000, 1 << 20])
@pytest.mark.parametrize("nested", [False, True])
def test_every_parser_and_chunk_size_gives_the_values_of_the_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    indent: int | None,
    chunk_bytes: int,
    nested: bool,
) -> None:
    rows = _rows(53)
    if not nested:  # if a chunk is cut in a nested object, msgspec fails and json parses
        rows = [{**row, "extra": None} for row in rows]
    path = tmp_path / "thing.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=indent is None), "utf-8")
    monkeypatch.setattr(columns, "_CHUNK_BYTES", chunk_bytes)
    for _ in range(2):
        table = TableColumns(path, FIELDS)
        assert len(table) == 53
        for name in ("token", "word", "kind", "file", "other"):
            assert table.text(name).tolist() == [row[name] for row in rows]
        for name in ("count", "is_key", "place"):
            assert table.array(name).tolist() == [row[name] for row in rows]
        assert table.array("height").tolist() == [row["height"] or 0 for row in rows]
        nan = np.full((2, 3), np.nan)
        expected = np.array([row["matrix"] or nan for row in rows], dtype=np.float64)
        np.testing.assert_array_equal(table.array("matrix"), expected)
        monkeypatch.setitem(sys.modules, "msgspec", None)  # the second pass runs without msgspec


def test_large_tables_are_parsed_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "thing.json"
    path.write_text(json.dumps([{**row, "extra": None} for row in _rows(200)], indent=0))
    monkeypatch.setattr(columns, "_CHUNK_BYTES", 4096)
    texts = list(columns._split_list(path))
    assert len(texts) > 10 and max(map(len, texts)) < 2 * 4096 + 1000
    assert [row for t in texts for row in json.loads(t)] == json.loads(path.read_text())
    monkeypatch.setattr(columns, "_parse_with_json", None)  # msgspec alone
    pytest.importorskip("msgspec")
    assert len(TableColumns(path, FIELDS)) == 200


@pytest.mark.parametrize("kind", [Integers(), Text(), Floats(2), Tokens()])
@pytest.mark.parametrize("bad_row", [0, 30, 59])
def test_an_error_names_a_bad_value_in_any_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Field, bad_row: int
) -> None:
    good = {Integers: 3, Text: "x", Floats: [1.5, 2], Tokens: "a" * 32}[type(kind)]
    rows = [{"token": f"{k:032x}", "value": good} for k in range(60)]
    rows[bad_row]["value"] = {"not": "this"}
    path = tmp_path / "thing.json"
    path.write_text(json.dumps(rows))
    monkeypatch.setattr(columns, "_CHUNK_BYTES", 300)
    with pytest.raises(
        ValueError, match=rf"^value in thing.json \(row {bad_row}, token '{bad_row:032x}'\) must"
    ):
        TableColumns(path, {"value": kind})


def test_whole_numbers_beyond_64_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.write_text(json.dumps([{"token": "a", "value": 2**63}]))
    with pytest.raises(ValueError, match="must be a whole number; got 9223372036854775808"):
        TableColumns(path, {"value": Integers()})


def test_columns_hold_only_the_requested_fields(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.write_text(json.dumps([{"token": "a", "one": 1, "two": 2}]))
    table = TableColumns(path, {"one": Integers()})
    assert table.array("one").tolist() == [1]
    with pytest.raises(KeyError):
        table.array("two")


def test_a_table_may_be_read_for_its_tokens_alone(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.write_text(json.dumps([{"token": "a"}, {"token": "b", "other": 1}]))
    assert TableColumns(path).token.tolist() == ["a", "b"]


def test_an_empty_list_is_a_table_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.write_text(" [ ] ")
    table = TableColumns(path, FIELDS)
    assert len(table) == 0 and table.array("matrix").shape == (0, 2, 3)
