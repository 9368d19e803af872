"""The writer of tables: tokens, errors for invalid tables, and atomic replacement of files."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from bevstack.tables.names import TABLES
from bevstack.tables.writer import check_tables, make_token, write_json, write_tables


def small_tables() -> dict[str, list[dict[str, object]]]:
    """Return tables of one scene: two samples, one camera and one annotated instance."""
    tables = {name: [] for name in TABLES}
    tables["category"] = [{"token": "cat"}]
    tables["attribute"] = [{"token": "attr"}]
    tables["visibility"] = [{"token": "1"}]
    tables["sensor"] = [{"token": "sensor"}]
    tables["calibrated_sensor"] = [{"token": "cs", "sensor_token": "sensor"}]
    tables["log"] = [{"token": "log"}]
    tables["map"] = [{"token": "map", "log_tokens": ["log"]}]
    tables["ego_pose"] = [{"token": "pose"}]
    tables["scene"] = [
        {
            "token": "scene",
            "log_token": "log",
            "first_sample_token": "s0",
            "last_sample_token": "s1",
        }
    ]
    tables["sample"] = [
        {"token": "s0", "scene_token": "scene", "prev": "", "next": "s1"},
        {"token": "s1", "scene_token": "scene", "prev": "s0", "next": ""},
    ]
    tables["sample_data"] = [
        {
            "token": "sd",
            "sample_token": "s0",
            "ego_pose_token": "pose",
            "calibrated_sensor_token": "cs",
            "prev": "",
            "next": "",
        }
    ]
    tables["instance"] = [
        {
            "token": "inst",
            "category_token": "cat",
            "first_annotation_token": "ann",
            "last_annotation_token": "ann",
        }
    ]
    tables["sample_annotation"] = [
        {
            "token": "ann",
            "sample_token": "s0",
            "instance_token": "inst",
            "visibility_token": "",
            "attribute_tokens": ["attr"],
            "prev": "",
            "next": "",
        }
    ]
    return tables


def test_token_is_the_md5_of_the_path_of_its_parts():
    assert make_token("sample", "scene-2001", 7) == hashlib.md5(b"sample/scene-2001/7").hexdigest()
    assert make_token("a", "bc") != make_token("ab", "c")


def test_thirteen_written_files_are_read_back_unchanged(tmp_path: Path):
    tables = small_tables()
    write_tables(tmp_path / "root" / "v1.0-x", tables)
    written = {p.stem: json.loads(p.read_text()) for p in (tmp_path / "root" / "v1.0-x").iterdir()}
    assert written == tables


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("instance", "category_token", "gone"),
        ("calibrated_sensor", "sensor_token", "gone"),
        ("scene", "last_sample_token", "gone"),
        ("scene", "log_token", ""),
        ("sample", "next", "gone"),
        ("sample_data", "ego_pose_token", "gone"),
        ("sample_annotation", "attribute_tokens", ["attr", "gone"]),
        ("sample_annotation", "instance_token", "gone"),
        ("map", "log_tokens", ["gone"]),
    ],
)
def test_an_error_names_a_dangling_token_and_nothing_is_written(
    tmp_path: Path, table, field, value
):
    tables = small_tables()
    tables[table][0][field] = value
    with pytest.raises(ValueError, match=rf"^{table}\.{field} must be a token of table .*; got '"):
        write_tables(tmp_path / "v", tables)
    assert not (tmp_path / "v").exists()


def test_an_error_names_missing_and_unknown_tables():
    tables = small_tables()
    del tables["map"]
    tables["lidarseg"] = []
    with pytest.raises(ValueError, match=r"missing=\['map'\], extra=\['lidarseg'\]"):
        check_tables(tables)


def test_repeated_token_is_refused():
    tables = small_tables()
    tables["log"] *= 2
    with pytest.raises(ValueError, match="tokens of table log must be unique; got 2 rows with 1"):
        check_tables(tables)


def test_nan_is_refused_and_the_old_file_is_unchanged(tmp_path: Path):
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert (tmp_path / "a.json").read_text() == "[1]"


def test_a_full_disk_leaves_the_old_file_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_json(tmp_path / "a.json", {"old": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "a.json", {"new": 2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
