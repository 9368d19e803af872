"""Errors of matched boxes, to the last bit those of nuscenes-devkit.

Each is computed by the routine that the devkit's own expression ends in, over many boxes at once:
`np.linalg.norm` of a pair and `np.dot` of small matrices call BLAS, whose rounding differs between
processors (with or without fused multiplication), and `np.matmul` over stacks calls the same
routine for each. Closed forms would be right to 1e-15, and yet decide ties otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNIT_TOLERANCE = 1e-14  # pyquaternion's: a quaternion nearer to unit length stays as it is


def norms(
    vectors: Floats,  # (M, D)
) -> Floats:  # (M,)
    """Length of each vector, as ``np.linalg.norm`` gives it for one."""
    return np.sqrt(_dots(vectors, vectors))


def yaws(
    rotation: Floats,  # (M, 4) quaternions wxyz of any length
) -> Floats:  # (M,) radians
    """Heading of the rotated x axis seen from above; 0 of a quaternion without length."""
    heading = np.matmul(rotation_matrices(rotation), np.array([1.0, 0.0, 0.0]))
    # contiguous: numpy computes arctan2 otherwise, and to other last bits, on strided arrays
    y, x = np.ascontiguousarray(heading[:, 1]), np.ascontiguousarray(heading[:, 0])
    return np.arctan2(y, x)


def rotation_matrices(
    rotation: Floats,  # (M, 4) quaternions wxyz of any length
) -> Floats:  # (M, 3, 3)
    """Rotations, as pyquaternion computes them; zeros of a quaternion without length."""
    left, right = _product_matrices(_normalised(rotation))
    return np.matmul(left, right.transpose(0, 2, 1))[:, 1:, 1:]


def angle_differences(
    first: Floats,  # (M,) radians
    second: Floats,  # (M,) radians
    period: float,
) -> Floats:  # (M,) radians in (-pi, pi]
    """The smallest angle from the second to the first, of directions that repeat by the period."""
    difference = (first - second + period / 2) % period - period / 2
    return np.where(difference > np.pi, difference - 2 * np.pi, difference)


def scale_ious(
    first: Floats,  # (M, 3)
    second: Floats,  # (M, 3)
) -> Floats:  # (M,)
    """Intersection over union of boxes laid upon each other with one centre and heading."""
    intersection = _volumes(np.minimum(first, second))
    return intersection / (_volumes(first) + _volumes(second) - intersection)


def cumulative_means(
    values: Floats,  # (M,)
) -> Floats:  # (M,)
    """Mean of the values so far that are not NaN.

    0 before the first such value; ones where there is none at all.
    """
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    sums, counts = np.cumsum(np.where(known, values, 0.0)), np.cumsum(known)
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts != 0)


def _dots(first: Floats, second: Floats) -> Floats:
    return np.matmul(first[:, None, :], second[:, :, None])[:, 0, 0]


def _volumes(size: Floats) -> Floats:
    return (size[:, 0] * size[:, 1]) * size[:, 2]


def _normalised(rotation: Floats) -> Floats:
    square = _dots(rotation, rotation)
    length = np.sqrt(square)
    with np.errstate(invalid="ignore", divide="ignore"):
        stays = (np.abs(1.0 - square) < UNIT_TOLERANCE) | ~(length > 0)
        return np.where(stays[:, None], rotation, rotation / length[:, None])


def _product_matrices(rotation: Floats) -> tuple[Floats, Floats]:
    """The matrices (M, 4, 4) of multiplying by a quaternion from the left and from the right."""
    w, x, y, z = rotation.T
    left, right = np.empty((2, len(rotation), 4, 4))
    rows = ((w, -x, -y, -z), (x, w, -z, y), (y, z, w, -x), (z, -y, x, w))
    other_rows = ((w, -x, -y, -z), (x, w, z, -y), (y, -z, w, x), (z, y, -x, w))
    for matrix, entries in ((left, rows), (right, other_rows)):
        for row, of_row in enumerate(entries):
            for column, entry in enumerate(of_row):
                matrix[:, row, column] = entry
    return left, right
