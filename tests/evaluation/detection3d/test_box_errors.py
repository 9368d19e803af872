from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bevstack.evaluation.detection3d.box_errors import (
    angle_differences,
    cumulative_means,
    norms,
    rotation_matrices,
    scale_ious,
    yaws,
)


def test_lengths_are_those_of_linalg_to_the_last_bit() -> None:
    vectors = np.random.default_rng(0).normal(0, 3, (5000, 2))
    assert norms(vectors).tolist() == [np.linalg.norm(vector) for vector in vectors]
    assert norms(np.zeros((0, 2))).shape == (0,)


def test_headings_are_those_of_pyquaternion_to_the_last_bit() -> None:
    quaternion = pytest.importorskip("pyquaternion").Quaternion
    draw = np.random.default_rng(1)
    half = draw.uniform(-np.pi, np.pi, 2000)
    upright = np.stack((np.cos(half), 0 * half, -0.0 * half, np.sin(half)), -1)
    special = [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [-1, 0, 0, 0], [2, 0, 0, 3], [0, 1, 0, 0]]
    rotation = np.concatenate((draw.normal(0, 1, (2000, 4)), upright, -upright[:9], special))
    matrices, headings = rotation_matrices(rotation), yaws(rotation)
    for row, values in enumerate(rotation):
        matrix = quaternion(values).rotation_matrix
        assert np.array_equal(matrices[row], matrix)
        x, y, _ = np.dot(matrix, np.array([1, 0, 0]))
        heading = np.arctan2(y, x)
        assert (headings[row], np.signbit(headings[row])) == (heading, np.signbit(heading))


@pytest.mark.parametrize(
    ("first", "second", "period", "wanted"),
    [
        (90, 0, 360, 90),
        (90, 0, 180, -90),
        (90, 0, 90, 0),
        (0, 90, 90, 0),
        (0, 180, 180, 0),
        (0, 180 + 360 * 200, 360, -180),
        (-179, 179, 360, 2),
        (10, 350, 360, 20),
    ],
)
def test_the_smallest_angle_is_found(
    first: float, second: float, period: float, wanted: float
) -> None:
    difference = angle_differences(np.radians([first]), np.radians([second]), math.radians(period))
    assert np.degrees(difference[0]) == pytest.approx(wanted, abs=1e-9)


def test_scale_iou_is_one_for_equal_sizes_and_falls_with_volume() -> None:
    first = np.array([[4.0, 4.0, 4.0], [2.0, 2.0, 2.0], [0.96, 0.37, 0.69]])
    second = np.array([[4.0, 4.0, 4.0], [1.0, 1.0, 1.0], [0.32, 0.01, 0.39]])
    assert scale_ious(first, second).tolist() == pytest.approx([1.0, 1 / 8, 0.00509204], abs=1e-8)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((np.nan, 5), (0, 5)),
        ((5, 2, np.nan), (5, 3.5, 3.5)),
        ((np.nan, np.nan), (1, 1)),
        ((np.nan, 3.0, 1.0, np.nan, 8.0), (0, 3, 2, 2, 4)),
        ((np.inf, 1.0), (np.inf, np.inf)),
        ((4,), (4,)),
    ],
)
def test_cumulative_means_leave_out_unknown_values(values: tuple, wanted: tuple) -> None:
    assert cumulative_means(np.array(values, dtype=float)).tolist() == list(wanted)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_headings_do_not_depend_on_the_place_of_arrays_in_memory(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Arrays that touch would be computed by another routine of numpy, with other last bits."""
    calls = []
    arctan2 = np.arctan2

    def record(*arrays: np.ndarray, out: np.ndarray) -> np.ndarray:
        starts = [array.__array_interface__["data"][0] for array in (*arrays, out)]
        calls.append(sorted((start, start + out.nbytes) for start in starts))
        return arctan2(*arrays, out=out)

    monkeypatch.setattr(np, "arctan2", record)
    yaws(np.random.default_rng(0).normal(size=(count, 4)))
    (bounds,) = calls
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(bounds))
