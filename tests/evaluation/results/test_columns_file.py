from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bevstack.evaluation.results.columns_file import read_columns, write_columns
from bevstack.evaluation.results.submission import read_submission, write_submission
from tests.evaluation.detection3d.random_cases import random_case


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_columns_are_read_back_as_they_were(tmp_path: Path, seed: int) -> None:
    boxes, _ = random_case(seed)
    path = tmp_path / "new" / "r.safetensors"
    write_columns(path, boxes, {"use_camera": True, "note": "größe"})
    content = read_columns(path)
    assert content.meta == {"use_camera": True, "note": "größe"}
    for field in dataclasses.fields(boxes):
        wanted, column = getattr(boxes, field.name), getattr(content.boxes, field.name)
        assert np.array_equal(wanted, column, equal_nan=wanted.dtype.kind == "f"), field.name
    assert os.listdir(path.parent) == ["r.safetensors"]


def test_the_same_columns_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    boxes, _ = random_case(1)
    files = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for file in files:
        write_columns(file, boxes, {"use_camera": True})
    assert len({file.read_bytes() for file in files}) == 1


def test_no_sample_and_no_box_are_columns_too(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    write_submission(path, {})
    assert read_submission(path).sample_tokens == ()
    write_submission(path, {"a": [], "b": []})
    assert read_submission(path).sample_tokens == ("a", "b")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"got no file .*none\.safetensors"):
        read_columns(tmp_path / "none.safetensors")


@pytest.mark.parametrize("size", [0, 7, 100, -20])
def test_a_cut_off_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "r.safetensors"
    write_columns(path, random_case(3)[0], {})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"must hold columns as bevstack writes them; got .*r\."):
        read_columns(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_file({"weight": np.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"must hold columns .*format None"):
        read_columns(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("sample", lambda column: column + 100),
        ("named_sample", lambda column: column - 100),
        ("label", lambda column: column + 100),
        ("attribute", lambda column: column - 100),
        ("score", lambda column: column.astype(np.float32)),
        ("size", lambda column: column[:, :2]),
        ("velocity", lambda column: column[1:]),
    ],
)
def test_columns_that_point_nowhere_are_refused(tmp_path: Path, name: str, change) -> None:
    boxes, _ = random_case(3)
    assert len(boxes)
    faulty = object.__new__(type(boxes))
    faulty.__dict__.update({**boxes.__dict__, name: change(getattr(boxes, name))})
    write_columns(tmp_path / "r.safetensors", faulty, {})
    with pytest.raises(ValueError, match=f"must hold columns .*{name}"):
        read_columns(tmp_path / "r.safetensors")
