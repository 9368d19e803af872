"""Clipping against densely sampled edges, projected by a pinhole camera."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bevstack.render.clipping import (
    NEAR_M,
    clip_polygon,
    clip_segments,
    visible_polygon,
    visible_segments,
)

INTRINSICS = np.array([[310.0, 2.0, 207.0], [0.0, 290.0, 96.0], [0.0, 0.0, 1.0]])
SIZE = (225, 400)
SAMPLES = 200_001


def sampled_pixels(segment: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pixels of a 3D segment's points that are in front of the camera and in view."""
    fraction = np.linspace(0, 1, SAMPLES)[:, None]
    points = segment[0] + fraction * (segment[1] - segment[0])
    points = points[points[:, 2] >= NEAR_M]
    u = (310.0 * points[:, 0] + 2.0 * points[:, 1]) / points[:, 2] + 207.0
    v = 290.0 * points[:, 1] / points[:, 2] + 96.0
    inside = (u >= 0) & (u <= SIZE[1]) & (v >= 0) & (v <= SIZE[0])
    return np.stack((u, v), -1)[inside]


@pytest.mark.parametrize("seed", range(60))
def test_visible_part_of_an_edge_ends_where_its_samples_end(seed: int) -> None:
    random = np.random.default_rng(seed)
    segment = random.normal((0.0, 0.0, 1.5), 3.0, (2, 3))  # about half cross the camera's plane
    clipped = visible_segments(segment[None], INTRINSICS, SIZE)
    expected = sampled_pixels(segment)
    if not len(expected):
        # The samples may miss a part that is shorter than the distance between two of them.
        assert len(clipped) == 0 or np.linalg.norm(clipped[0, 1] - clipped[0, 0]) < 1.0
        return
    # Between two samples a pixel moves by less than 0.5: the nearest depth is NEAR_M, and a pixel
    # then moves by f * 10 m / (SAMPLES * NEAR_M**2) < 0.2 in depth and less across.
    np.testing.assert_allclose(clipped[0, 0], expected[0], atol=0.5)
    np.testing.assert_allclose(clipped[0, 1], expected[-1], atol=0.5)


def test_enough_random_edges_cross_the_near_plane() -> None:
    crossing = 0
    for seed in range(60):
        depth = np.random.default_rng(seed).normal((0.0, 0.0, 1.5), 3.0, (2, 3))[:, 2]
        crossing += (depth < NEAR_M).any() and (depth > NEAR_M).any()
    assert crossing > 10


def test_edge_behind_the_camera_is_dropped() -> None:
    behind = np.array([[[1.0, 1.0, -3.0], [-1.0, 0.5, -0.2]]])
    assert visible_segments(behind, INTRINSICS, SIZE).shape == (0, 2, 2)


def test_empty_set_of_edges_stays_empty() -> None:
    assert visible_segments(np.zeros((0, 2, 3)), INTRINSICS, SIZE).shape == (0, 2, 2)


def test_segment_on_the_border_is_kept() -> None:
    segment = np.array([[[2.0, 0.0], [2.0, 5.0]]])
    np.testing.assert_array_equal(clip_segments(segment, np.array([1.0, 0.0]), 2.0), segment)


@pytest.mark.parametrize("seed", range(25))
def test_polygon_covers_the_pixels_whose_rays_hit_the_face(seed: int) -> None:
    random = np.random.default_rng(100 + seed)
    center = random.normal((0.0, 0.0, 1.5), 1.5)
    across, along = random.normal(0, 1.5, (2, 3))
    face = center + np.array([across + along, across - along, -across - along, along - across])
    polygon = visible_polygon(face, INTRINSICS, SIZE)

    # Independent reference: intersect the ray of every pixel with the face's plane.
    v, u = np.mgrid[0 : SIZE[0] : 5, 0 : SIZE[1] : 5] + 0.37
    rays = np.stack((u, v, np.ones_like(u)), -1) @ np.linalg.inv(INTRINSICS).T
    normal = np.cross(across, along)
    depth = (center @ normal) / (rays @ normal)
    offset = rays * depth[..., None] - center
    basis = np.linalg.pinv(np.stack((across, along), 1))
    hit = (np.abs(offset @ basis.T) <= 1).all(-1) & (depth >= NEAR_M)

    covered = np.zeros_like(hit)
    if len(polygon) >= 3:
        edges = np.roll(polygon, -1, 0) - polygon
        pixels = np.stack((u, v), -1)[..., None, :] - polygon
        turn = edges[:, 0] * pixels[..., 1] - edges[:, 1] * pixels[..., 0]
        covered = (turn >= 0).all(-1) | (turn <= 0).all(-1)
    np.testing.assert_array_equal(covered, hit)


def test_polygon_outside_has_no_corners() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    assert clip_polygon(square, np.array([1.0, 0.0]), 3.0).shape == (0, 2)
    np.testing.assert_array_equal(clip_polygon(square, np.array([1.0, 0.0]), -3.0), square)
