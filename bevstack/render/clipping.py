"""Clipping of segments and convex polygons at planes and lines, and projection of the result.

A box that is partly behind the camera is cut at a plane in front of the camera **before** the
division by depth. Projecting its corners first would mirror the part behind the camera into the
image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEAR_M = 0.1  # depth at which boxes are cut: nearer than any object, large enough to divide by

# Corner pairs of the twelve edges, in the order of `bevstack.types.boxes.CORNER_SIGNS`: bottom
# face, top face, verticals.
EDGES = (
    *((0, 1), (1, 2), (2, 3), (3, 0)),
    *((4, 5), (5, 6), (6, 7), (7, 4)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
)
FRONT_FACE = (0, 3, 7, 4)


def clip_segments(
    segments: Array,  # (E, 2, D) start and end points
    normal: Array,  # (D,)
    offset: float,
) -> Array:  # (E', 2, D)
    """Return the parts of segments where normal . p >= offset; drop segments fully outside."""
    distance = segments @ normal - offset  # (E, 2)
    kept = (distance >= 0).any(1)
    segments, distance = segments[kept], distance[kept]
    across = distance[:, 1] - distance[:, 0]
    cut = (distance < 0).any(1)
    fraction = -distance[:, 0] / np.where(cut, across, 1.0)
    crossing = segments[:, 0] + fraction[:, None] * (segments[:, 1] - segments[:, 0])
    return np.where((distance < 0)[..., None], crossing[:, None], segments)


def clip_polygon(
    points: Array,  # (P, D) corners in order
    normal: Array,  # (D,)
    offset: float,
) -> Array:  # (P', D), P' = 0 if the polygon is fully outside
    """Return the part of a convex polygon where normal . p >= offset (Sutherland-Hodgman 1974)."""
    distance = points @ normal - offset
    corners = []
    for index in range(len(points)):
        following = (index + 1) % len(points)
        if distance[index] >= 0:
            corners.append(points[index])
        if (distance[index] >= 0) != (distance[following] >= 0):
            fraction = distance[index] / (distance[index] - distance[following])
            corners.append(points[index] + fraction * (points[following] - points[index]))
    return np.stack(corners) if corners else points[:0]


def image_borders(
    size: tuple[int, int],  # (H, W)
    margin_px: float,
) -> tuple[tuple[Array, float], ...]:
    """Return half-planes (normal, offset) whose intersection is the image, grown by a margin."""
    height, width = size
    return (
        (np.array([1.0, 0.0]), -margin_px),
        (np.array([-1.0, 0.0]), -(width + margin_px)),
        (np.array([0.0, 1.0]), -margin_px),
        (np.array([0.0, -1.0]), -(height + margin_px)),
    )


def to_camera(
    points_bev: Array,  # (..., 3)
    cam_from_bev: Array,  # (4, 4)
) -> Array:  # (..., 3) camera axes: x right, y down, z forward
    """Transform points into the camera's frame."""
    points_cam: Array = points_bev @ cam_from_bev[:3, :3].T + cam_from_bev[:3, 3]
    return points_cam


def to_pixels(
    points_cam: Array,  # (..., 3) in front of the camera
    intrinsics: Array,  # (3, 3)
) -> Array:  # (..., 2)
    """Project points to continuous pixel coordinates (pinhole): column j covers u in [j, j + 1)."""
    projected = points_cam @ intrinsics.T
    pixels: Array = projected[..., :2] / projected[..., 2:]
    return pixels


def visible_segments(
    segments_cam: Array,  # (E, 2, 3)
    intrinsics: Array,  # (3, 3)
    size: tuple[int, int],  # (H, W)
    margin_px: float = 0.0,
) -> Array:  # (E', 2, 2) pixels
    """Return the parts of 3D segments that are visible in the image, in pixels."""
    in_front = clip_segments(segments_cam, np.array([0.0, 0.0, 1.0]), NEAR_M)
    segments = to_pixels(in_front, intrinsics)
    for normal, offset in image_borders(size, margin_px):
        segments = clip_segments(segments, normal, offset)
    return segments


def visible_polygon(
    points_cam: Array,  # (P, 3) corners of a flat convex polygon, in order
    intrinsics: Array,  # (3, 3)
    size: tuple[int, int],  # (H, W)
    margin_px: float = 0.0,
) -> Array:  # (P', 2) pixels
    """Return the part of a flat convex polygon that is visible in the image, in pixels."""
    in_front = clip_polygon(points_cam, np.array([0.0, 0.0, 1.0]), NEAR_M)
    polygon = to_pixels(in_front, intrinsics)
    for normal, offset in image_borders(size, margin_px):
        polygon = clip_polygon(polygon, normal, offset)
    return polygon
