"""Rows that occur twice, flags of the wrong kind: refused, with and without a column cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bevstack.tables import cache
from bevstack.tables.duplicates import first_duplicate
from bevstack.tables.reader import Tables
from bevstack.tables.records import RECORDS
from bevstack.tables.text import HexText, PlainText
from tests.tables.tiny_root import VERSION, read_table, token, write_tables, write_tiny_root

pytestmark = pytest.mark.usefixtures("cache_in_process")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return write_tiny_root(tmp_path / "root")


def _read_all(root: Path, *, cached: bool) -> Tables:
    tables = Tables(root, VERSION, cache=cached)
    for name in RECORDS:
        getattr(tables, name)
    return tables


@pytest.mark.parametrize("channel", ["CAM_FRONT", "LIDAR_TOP"])
@pytest.mark.parametrize("cached", [False, True])
def test_a_key_frame_that_occurs_twice_names_sample_and_channel(
    root: Path, channel: str, cached: bool
) -> None:
    if cached:
        _read_all(root, cached=True)  # a cache of the tables before they change
    rows = read_table(root, "sample_data")
    more = [
        {**row, "token": f"{k:032x}"} for k, row in enumerate(rows, 1) if channel in row["filename"]
    ]
    write_tables(root, {"sample_data": rows + more})
    for _ in range(2):  # the second time a cache, if one was written
        with pytest.raises(
            ValueError, match=rf"one key frame of each sensor .*{channel} in sample '"
        ):
            _read_all(root, cached=cached)


def test_two_sensors_of_one_channel_in_a_sample_are_refused(root: Path) -> None:
    sensors = read_table(root, "sensor")
    front = next(row for row in sensors if row["channel"] == "CAM_FRONT")
    for row in sensors:
        if row["channel"] == "CAM_BACK":
            row["channel"] = "CAM_FRONT"
    write_tables(root, {"sensor": sensors})
    assert front["token"] != token("sensor", "CAM_BACK")
    with pytest.raises(ValueError, match="two of CAM_FRONT in sample"):
        _read_all(root, cached=False)


def test_a_sweep_beside_its_key_frame_is_no_duplicate(root: Path) -> None:
    rows = read_table(root, "sample_data")
    sweeps = [{**row, "token": f"{k:032x}", "is_key_frame": False} for k, row in enumerate(rows, 1)]
    write_tables(root, {"sample_data": rows + sweeps})
    tables = _read_all(root, cached=False)
    assert len(tables.sweeps.token) == len(tables.keyframes.token) == len(rows)


@pytest.mark.parametrize("value", ["true", "false", 1, 0, None, 1.0, []])
def test_a_flag_is_true_or_false(root: Path, value: object) -> None:
    rows = read_table(root, "sample_data")
    rows[2]["is_key_frame"] = value
    write_tables(root, {"sample_data": rows})
    with pytest.raises(
        ValueError,
        match=r"^is_key_frame in sample_data\.json \(row 2, token '\w+'\) must be true or false",
    ):
        _read_all(root, cached=False)


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("sample_annotation", "num_lidar_pts", True),
        ("sample", "timestamp", "1600000000000000"),
        ("sample_annotation", "size", ["1.0", "2.0", "3.0"]),
        ("ego_pose", "translation", [True, 2.0, 3.0]),
        ("calibrated_sensor", "translation", ["1.0", "2.0", "3.0"]),
        ("calibrated_sensor", "rotation", [None, 0.0, 0.0, 1.0]),
        ("calibrated_sensor", "camera_intrinsic", [["60", 0, 40], [0, 60, 24], [0, 0, 1]]),
        ("ego_pose", "rotation", [10**400, 0, 0, 1]),
    ],
)
def test_text_booleans_and_null_are_no_numbers(
    root: Path, table: str, field: str, value: object
) -> None:
    rows = read_table(root, table)
    rows[1][field] = value
    write_tables(root, {table: rows})
    with pytest.raises(ValueError, match=rf"^{field} in {table}\.json \(row 1, token '\w+'\) must"):
        _read_all(root, cached=False)


@pytest.mark.parametrize("table", ["sample_data", "sample_annotation", "scene", "attribute"])
@pytest.mark.parametrize("name", ["f" * 32, "short"])
def test_a_token_that_occurs_twice_is_refused_in_every_table(
    root: Path, table: str, name: str
) -> None:
    rows = read_table(root, table)
    rows += [{**rows[0], "token": name, "name": n} for n in ("scene-1", "scene-2")]
    write_tables(root, {table: rows})
    count = len(rows)
    with pytest.raises(
        ValueError,
        match=rf"tokens of .*{table}\.json must be unique; got '{name}' twice, in rows "
        rf"{count - 2} and {count - 1}",
    ):
        _read_all(root, cached=False)


def test_the_first_duplicate_is_found_among_tokens_with_equal_halves() -> None:
    tokens = [f"{k % 3:016x}{k:016x}" for k in range(1, 10)]
    for doubled in (None, 4):
        strings = tokens if doubled is None else [*tokens, tokens[doubled]]
        packed = HexText.pack(strings)
        assert packed is not None
        wanted = None if doubled is None else (doubled, 9)
        assert first_duplicate(HexText(packed)) == wanted
        assert first_duplicate(PlainText.from_strings(strings)) == wanted


@pytest.mark.parametrize("cached", [False, True])
def test_an_annotation_that_occurs_twice_is_refused(root: Path, cached: bool) -> None:
    rows = read_table(root, "sample_annotation")
    write_tables(root, {"sample_annotation": [*rows, {**rows[3], "token": "f" * 32}]})
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"same values twice in sample .*'{'f' * 32}'"):
            _read_all(root, cached=cached)


def test_different_boxes_of_one_instance_are_accepted(root: Path) -> None:
    rows = read_table(root, "sample_annotation")
    moved = {**rows[3], "token": "f" * 32, "translation": [1.0, 2.0, 3.0]}
    write_tables(root, {"sample_annotation": [*rows, moved]})
    assert len(_read_all(root, cached=False).annotations.token) == len(rows) + 1


def test_two_scenes_of_one_name_are_refused(root: Path) -> None:
    rows = read_table(root, "scene")
    rows[1]["name"] = rows[0]["name"]
    write_tables(root, {"scene": rows})
    with pytest.raises(
        ValueError, match=r"names of .*scene\.json must be unique; got 'scene-0103'"
    ):
        Tables(root, VERSION).scene_rows(["scene-0103"])


def test_a_cache_of_an_older_format_does_not_hide_a_fault(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_table(root, "scene")
    rows[1]["name"] = rows[0]["name"]
    write_tables(root, {"scene": rows})
    with monkeypatch.context() as older:
        older.setattr(cache, "FORMAT", cache.FORMAT - 1)
        older.setattr("bevstack.tables.columns.TableColumns.check_unique", lambda *_: None)
        _read_all(root, cached=True)
    assert (root / VERSION / cache.FILE_NAME).is_file()
    with pytest.raises(ValueError, match="must be unique"):
        _read_all(root, cached=True)


@pytest.mark.parametrize("form", ["upper case", "16 digits", "mixed"])
@pytest.mark.parametrize("cached", [False, True])
def test_tokens_of_other_forms_give_the_same_tables(root: Path, form: str, cached: bool) -> None:
    wanted = _read_all(root, cached=False)

    def changed(text: str) -> str:
        if len(text) != 32:
            return text
        short = text[:16] if form == "16 digits" or text < "8" else text
        return short.upper() if form != "16 digits" else short

    folder = root / VERSION
    for path in folder.glob("*.json"):
        rows = json.loads(path.read_text())
        for row in rows:
            for field, value in row.items():
                if isinstance(value, str):
                    row[field] = changed(value)
                elif isinstance(value, list) and value and isinstance(value[0], str):
                    row[field] = [changed(text) for text in value]
        path.write_text(json.dumps(rows))
    for _ in range(2):
        tables = _read_all(root, cached=cached)
        for name in ("sample", "instance", "translation", "velocity"):
            values = [getattr(t.annotations, name) for t in (tables, wanted)]
            np.testing.assert_array_equal(*values)
        assert tables.annotations.token.tolist() == list(map(changed, wanted.annotations.token))
        assert tables.sample_row(changed(str(wanted.samples.token[3]))) == 3


@pytest.mark.parametrize("cached", [False, True])
def test_backslashes_in_file_names_are_separators(root: Path, cached: bool) -> None:
    wanted = _read_all(root, cached=False).keyframes.filename.tolist()
    rows = read_table(root, "sample_data")
    for row in rows[::2]:
        row["filename"] = row["filename"].replace("/", "\\")
    write_tables(root, {"sample_data": rows})
    for _ in range(2):
        assert _read_all(root, cached=cached).keyframes.filename.tolist() == wanted
