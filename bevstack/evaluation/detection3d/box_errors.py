"""Errors of matched boxes, equal to those of nuscenes-devkit to the last bit.

Each error uses the routine that the devkit's expression ends in, over many boxes at once.
`np.linalg.norm` of a pair and `np.dot` of small matrices call BLAS, whose rounding differs between
processors (with or without fused multiply-add). `np.matmul` over stacks calls the same routine for
each element. Closed forms would be correct to 1e-15, but they would break ties differently.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNIT_TOLERANCE = 1e-14  # of pyquaternion: it does not normalise quaternions nearer to unit length


def norms(
    vectors: Floats,  # (M, D)
) -> Floats:  # (M,)
    """Return the length of each vector, as ``np.linalg.norm`` returns it for a single vector."""
    lengths: Floats = np.sqrt(_dots(vectors, vectors))
    return lengths


def yaws(
    rotation: Floats,  # (M, 4) quaternions wxyz of any length
) -> Floats:  # (M,) radians
    """Return the heading of the rotated x axis seen from above.

    A quaternion of zero length has heading 0.
    """
    heading = np.matmul(rotation_matrices(rotation), np.array([1.0, 0.0, 0.0]))
    # Contiguous and apart: for arrays that are strided, or that touch each other in memory, numpy
    # takes another routine of arctan2, whose last bits differ.
    y, x, out = np.empty((3, len(heading) + 1))[:, :-1]
    y[:], x[:] = heading[:, 1], heading[:, 0]
    angles: Floats = np.arctan2(y, x, out=out)
    return angles


def rotation_matrices(
    rotation: Floats,  # (M, 4) quaternions wxyz of any length
) -> Floats:  # (M, 3, 3)
    """Return rotation matrices as pyquaternion computes them.

    A quaternion of zero length gives a matrix of zeros.
    """
    left, right = _product_matrices(_normalised(rotation))
    matrices: Floats = np.matmul(left, right.transpose(0, 2, 1))[:, 1:, 1:]
    return matrices


def angle_differences(
    first: Floats,  # (M,) radians
    second: Floats,  # (M,) radians
    period: float,
) -> Floats:  # (M,) radians in (-pi, pi]
    """Return the smallest angle from ``second`` to ``first``; directions repeat by ``period``."""
    difference: Floats = (first - second + period / 2) % period - period / 2
    return np.where(difference > np.pi, difference - 2 * np.pi, difference)


def scale_ious(
    first: Floats,  # (M, 3)
    second: Floats,  # (M, 3)
) -> Floats:  # (M,)
    """Return the intersection over union of boxes that are moved to one center and heading."""
    intersection = _volumes(np.minimum(first, second))
    return intersection / (_volumes(first) + _volumes(second) - intersection)


def cumulative_means(
    values: Floats,  # (M,)
) -> Floats:  # (M,)
    """Return the mean of the values so far, without NaN.

    Before the first known value it is 0. If all values are NaN, every mean is 1.
    """
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    sums, counts = np.cumsum(np.where(known, values, 0.0)), np.cumsum(known)
    means: Floats = np.divide(sums, counts, out=np.zeros_like(sums), where=counts != 0)
    return means


def _dots(first: Floats, second: Floats) -> Floats:
    products: Floats = np.matmul(first[:, None, :], second[:, :, None])[:, 0, 0]
    return products


def _volumes(size: Floats) -> Floats:
    volumes: Floats = (size[:, 0] * size[:, 1]) * size[:, 2]
    return volumes


def _normalised(rotation: Floats) -> Floats:
    square = _dots(rotation, rotation)
    length = np.sqrt(square)
    with np.errstate(invalid="ignore", divide="ignore"):
        keep = (np.abs(1.0 - square) < UNIT_TOLERANCE) | ~(length > 0)
        return np.where(keep[:, None], rotation, rotation / length[:, None])


def _product_matrices(rotation: Floats) -> tuple[Floats, Floats]:
    """Return the matrices (M, 4, 4) of quaternion products from the left and from the right."""
    w, x, y, z = rotation.T
    left, right = np.empty((2, len(rotation), 4, 4))
    left_rows = ((w, -x, -y, -z), (x, w, -z, y), (y, z, w, -x), (z, -y, x, w))
    right_rows = ((w, -x, -y, -z), (x, w, z, -y), (y, -z, w, x), (z, y, -x, w))
    for matrix, rows in ((left, left_rows), (right, right_rows)):
        for row, entries in enumerate(rows):
            for column, entry in enumerate(entries):
                matrix[:, row, column] = entry
    return left, right
