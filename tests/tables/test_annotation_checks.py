"""Faulty boxes are refused when they are used, and the annotation is named."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bevstack.tables.annotation_checks import check_attributes, points_inside
from bevstack.tables.calibration import world_annotations
from bevstack.tables.reader import Tables
from tests.tables.tiny_root import VERSION, read_table, write_tables, write_tiny_root

NAN, INF = math.nan, math.inf

pytestmark = pytest.mark.usefixtures("cache_in_process")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny_root(tmp_path / "root")


def change(root: Path, row: int, **values: object) -> dict:
    """Change fields of one annotation, and return it."""
    rows = read_table(root, "sample_annotation")
    rows[row] |= values
    write_tables(root, {"sample_annotation": rows})
    return rows[row]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "size",
            [0.0, 4.0, 1.5],
            r"must be positive and at most 1000 m .* got \[0\.0, 4\.0, 1\.5\]",
        ),
        ("size", [2.0, 4.0, -1.5], r"must be positive and at most 1000 m"),
        ("size", [1900.0, 4600.0, 1700.0], r"must be positive and at most 1000 m"),
        ("size", [1e-300, 4.0, 1.5], r"must be positive and at most 1000 m"),
        ("size", [2.0, NAN, 1.5], "must be finite"),
        ("translation", [NAN, 1.0, 2.0], "must be finite"),
        ("translation", [1.0, -INF, 2.0], "must be finite"),
        ("translation", [], "must be finite"),
        ("rotation", [NAN, 0.0, 0.0, 1.0], "must be finite"),
        ("rotation", [0.0, 0.0, 0.0, 0.0], "must be a quaternion .* of length 1; got"),
        ("rotation", [1.57, 0.0, 0.0, 0.0], "must be a quaternion"),
        ("rotation", [90.0, 0.0, 0.0, 0.0], "must be a quaternion"),
    ],
)
@pytest.mark.parametrize("cache", [False, True])
def test_a_faulty_box_names_its_annotation(
    root: Path, field: str, value: list[float], message: str, cache: bool
) -> None:
    row = change(root, 1, **{field: value})
    tables = Tables(root, VERSION, cache=cache)
    where = rf"^{field} of annotation '{row['token']}' \(sample '{row['sample_token']}'\) {message}"
    with pytest.raises(ValueError, match=where):
        world_annotations(tables, tables.sample_row(row["sample_token"]))
    velocity = world_annotations(tables, 0).boxes.velocity[0]  # of the sample before
    assert not velocity.isinf().any()


def test_rounded_quaternions_and_boxes_of_other_categories_are_accepted(root: Path) -> None:
    tables = Tables(root, VERSION)
    animal = tables.annotations.category.tolist().index("animal")
    change(root, animal, size=[0.0, 0.0, 0.0])
    change(root, 1, rotation=[0.71, 0.0, 0.0, -0.71])
    assert len(world_annotations(Tables(root, VERSION), 1)) == 3


@pytest.mark.parametrize(
    ("lidar", "radar", "points", "total"),
    [(3, 2, 5, 5), (0, 0, 0, 0), (-1, 0, -1, -1), (-1, -1, -1, -2), (-1, 1, -1, 0), (4, -1, -1, 3)],
)
@pytest.mark.parametrize("cache", [False, True])
def test_negative_counts_mean_that_points_were_not_counted(
    root: Path, lidar: int, radar: int, points: int, total: int, cache: bool
) -> None:
    change(root, 0, num_lidar_pts=lidar, num_radar_pts=radar)
    tables = Tables(root, VERSION, cache=cache)
    assert points_inside(tables, np.array([0])).tolist() == [points]
    assert tables.annotations.num_points[0] == total  # the devkit's number


def test_an_unknown_attribute_names_its_annotation(root: Path) -> None:
    rows = read_table(root, "attribute")
    rows[0]["name"] = "vehicle.movin"
    write_tables(root, {"attribute": rows})
    tables = Tables(root, VERSION)
    annotations = tables.annotations
    moving = np.flatnonzero(annotations.attribute == "vehicle.movin")
    check_attributes(tables, np.setdiff1d(np.arange(len(annotations.token)), moving))
    with pytest.raises(
        ValueError,
        match=rf"annotation '{annotations.token[moving[0]]}' must be one of .*; got "
        r"'vehicle\.movin'; did you mean 'vehicle\.moving'",
    ):
        check_attributes(tables, np.arange(len(annotations.token)))
