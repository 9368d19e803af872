"""Ray casting: each hit is compared with small steps along the ray through the solid."""

import math

import numpy as np
import pytest

from bevstack.synthetic.renderer.primitives import (
    CODE_COLUMNS,
    GEOMETRY_COLUMNS,
    Kind,
    Pattern,
    PrimitiveList,
    place,
)
from bevstack.synthetic.renderer.raycast import FAR, rasterise, sweep

STEP_M = 0.004


def is_inside(geometry: np.ndarray, kind: int, points: np.ndarray) -> np.ndarray:
    """Return a mask of the points (N, 3) inside the solid, from its definition."""
    cx, cy, cz, cos, sin, hx, hy, hz, front, back, side, hole = geometry
    dx, dy = points[:, 0] - cx, points[:, 1] - cy
    x, y, z = cos * dx + sin * dy, cos * dy - sin * dx, points[:, 2] - cz
    rise = z + hz
    if kind == Kind.BOX:
        inside = (np.abs(z) <= hz) & (x <= hx - front * rise) & (x >= -hx + back * rise)
        return inside & (np.abs(y) <= hy - side * rise)
    if kind == Kind.ELLIPSOID:
        return (x / hx) ** 2 + (y / hy) ** 2 + (z / hz) ** 2 <= 1
    if kind == Kind.POST:
        return ((x / hx) ** 2 + (y / hy) ** 2 <= 1) & (np.abs(z) <= hz)
    inside = ((x / hx) ** 2 + (z / hz) ** 2 <= 1) & (np.abs(y) <= hy)
    return inside & (x**2 + z**2 >= hole**2) if kind == Kind.RING else inside


def march(geometry: np.ndarray, kind: int, origin: np.ndarray, direction: np.ndarray) -> float:
    """Step along a ray to the first point inside; return the distance in units of the direction."""
    length = np.linalg.norm(direction)
    t = np.arange(0.0, 14.0, STEP_M) / length
    inside = is_inside(geometry, kind, origin + t[:, None] * direction)
    return float(t[np.argmax(inside)]) if inside.any() else FAR


def shape(kind: Kind, rng: np.random.Generator):
    size = tuple(rng.uniform(0.8, 2.5, 3))
    slopes = tuple(rng.uniform(0.0, 0.3, 3)) if kind is Kind.BOX else (0.0, 0.0, 0.0)
    parts = PrimitiveList()
    parts.add(
        Pattern.PLAIN,
        tuple(rng.uniform(-0.5, 0.5, 3)),
        (size[0], 0.4 if kind is Kind.RING else size[1], size[0] if kind is Kind.RING else size[2]),
        (1, 1, 1),
        kind=kind,
        yaw_rad=float(rng.uniform(-3, 3)),
        slopes=slopes,
        hole_m=0.3 * size[0] if kind is Kind.RING else 0.0,
    )
    solid = parts.finish()
    solid.codes[:, 2] = 0
    return solid


def camera(rng: np.random.Generator, rows: int = 9, columns: int = 13):
    """Return centre, scene_from_cam and intrinsics of a camera that looks at the origin."""
    azimuth, height = rng.uniform(-math.pi, math.pi), rng.uniform(-2.0, 5.0)
    centre = np.array([6 * math.cos(azimuth), 6 * math.sin(azimuth), height])
    z = -centre / np.linalg.norm(centre)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    rotation = np.ascontiguousarray(np.stack([x, np.cross(z, x), z], axis=1))
    intrinsics = np.array([[14.0, 0, columns / 2 + 0.3], [0, 17.0, rows / 2 - 0.2], [0, 0, 1]])
    return centre, rotation, intrinsics


@pytest.mark.parametrize("kind", list(Kind))
def test_depth_of_each_pixel_equals_a_march_through_the_solid(kind: Kind):
    rng = np.random.default_rng(int(kind))
    hits = 0
    for _ in range(14):
        solid, (centre, rotation, intrinsics) = shape(kind, rng), camera(rng)
        depth = np.empty((9, 13))
        owner = np.empty((9, 13), np.int32)
        unoccluded = np.zeros(1, np.int64)
        stamp = np.zeros((9, 13), np.int32)
        view = (centre, rotation, intrinsics, depth, owner, stamp, unoccluded)
        rasterise(solid.geometry, solid.codes, *view)
        for row in range(9):
            for column in range(13):
                pixel = np.array([column + 0.5, row + 0.5, 1.0])
                ray = rotation @ np.linalg.solve(intrinsics, pixel)
                wanted = march(solid.geometry[0], kind, centre, ray)
                got = depth[row, column]
                if kind is Kind.RING and got >= FAR:
                    continue  # the far inner wall of the hole is not drawn
                # The march overshoots by up to a step; a ray along an edge may miss it.
                grazes = (wanted >= FAR) != (got >= FAR)
                assert grazes or abs(got - wanted) <= STEP_M * 1.01, (row, column)
                if grazes:  # the ray is inside for less than a step
                    beyond = min(got, wanted) + STEP_M / np.linalg.norm(ray)
                    near = centre + beyond * ray
                    assert not is_inside(solid.geometry[0], kind, near[None])[0]
                hits += wanted < FAR
        assert unoccluded[0] == (owner == 0).sum() == (depth < FAR).sum()
    assert hits > 60


def test_a_ring_is_open_in_the_middle_and_closed_around_it():
    parts = PrimitiveList()
    parts.add(Pattern.PLAIN, (0, 0, 0), (0.7, 0.06, 0.7), (0, 0, 0), kind=Kind.RING, hole_m=0.27)
    ring = parts.finish()
    centre = np.array([0.0, -3.0, 0.35])
    rotation = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    intrinsics = np.array([[300.0, 0, 50], [0, 300.0, 50], [0, 0, 1]])
    depth, owner = np.empty((100, 100)), np.empty((100, 100), np.int32)
    stamp, unoccluded = np.zeros((100, 100), np.int32), np.zeros(0, np.int64)
    rasterise(
        ring.geometry, ring.codes, centre, rotation, intrinsics, depth, owner, stamp, unoccluded
    )
    rows, columns = np.mgrid[:100, :100] + 0.5
    radius = np.hypot(rows - 50, columns - 50) / 300 * 2.97  # at the near cap
    assert (owner[radius < 0.265] == -1).all()
    assert (owner[(radius > 0.275) & (radius < 0.345)] == 0).all()
    assert (owner[radius > 0.36] == -1).all()


def test_the_nearest_solid_is_drawn_and_unoccluded_pixels_are_counted_for_each():
    parts = PrimitiveList()
    for x in (5.0, 3.0, 8.0):
        parts.add(Pattern.PLAIN, (x, 0.0, -0.5), (1.0, 1.0, 1.0), (1, 1, 1))
    solids = parts.finish()
    solids.codes[:, 2] = [0, 1, 2]
    rotation = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    intrinsics = np.array([[20.0, 0, 20], [0, 20.0, 15], [0, 0, 1]])
    depth, owner = np.empty((30, 40)), np.empty((30, 40), np.int32)
    stamp, unoccluded = np.zeros((30, 40), np.int32), np.zeros(3, np.int64)
    view = (np.zeros(3), rotation, intrinsics)
    rasterise(solids.geometry, solids.codes, *view, depth, owner, stamp, unoccluded)
    assert set(np.unique(owner)) == {-1, 1}
    assert depth[15, 20] == pytest.approx(2.5)
    assert unoccluded[1] > unoccluded[0] > unoccluded[2] > 0


def test_a_solid_that_crosses_the_image_plane_is_drawn_and_one_behind_is_not():
    parts = PrimitiveList()
    parts.add(
        Pattern.PLAIN, (0.0, 2.0, -1.0), (40.0, 1.0, 2.0), (1, 1, 1)
    )  # a wall beside the camera
    parts.add(Pattern.PLAIN, (-5.0, 0.0, -1.0), (1.0, 1.0, 2.0), (1, 1, 1))
    solids = parts.finish()
    rotation = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    intrinsics = np.array([[20.0, 0, 20], [0, 20.0, 15], [0, 0, 1]])
    depth, owner = np.empty((30, 40)), np.empty((30, 40), np.int32)
    stamp, unoccluded = np.zeros((30, 40), np.int32), np.zeros(0, np.int64)
    view = (np.zeros(3), rotation, intrinsics)
    rasterise(solids.geometry, solids.codes, *view, depth, owner, stamp, unoccluded)
    assert set(np.unique(owner)) == {-1, 0}
    # A ray through column c meets the wall's near face y = 1.5 at depth 1.5 * 20 / (20 - c - 0.5).
    for column in range(0, 15):
        assert depth[15, column] == pytest.approx(1.5 * 20 / (19.5 - column))


def test_ranges_of_a_sweep_equal_small_steps_and_the_ground():
    rng = np.random.default_rng(3)
    solids = [shape(kind, rng) for kind in (Kind.BOX, Kind.ELLIPSOID, Kind.POST, Kind.WHEEL)]
    for i, solid in enumerate(solids):
        solid.geometry[:, 0] += 4.5 * math.cos(1.7 * i)
        solid.geometry[:, 1] += 4.5 * math.sin(1.7 * i)
    geometry = np.concatenate([s.geometry for s in solids])
    codes = np.concatenate([s.codes for s in solids])
    origin = np.array([0.1, -0.2, 1.8])
    elevations = np.deg2rad([-25.0, -11.0, -3.0, 6.0])
    azimuths = 0.4 + np.arange(60) * (2 * math.pi / 60)
    distance, owner = np.empty((4, 60)), np.empty((4, 60), np.int32)
    sweep(geometry, codes, origin, elevations, azimuths, -1.0, distance, owner)
    met = 0
    for r, elevation in enumerate(elevations):
        for c, azimuth in enumerate(azimuths):
            flat = math.cos(elevation)
            ray = np.array(
                [flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)]
            )
            wanted = [march(g, k, origin, ray) for g, k in zip(geometry, codes[:, 0], strict=True)]
            ground = -2.8 / ray[2] if ray[2] < 0 else FAR
            nearest = min(*wanted, ground)
            if abs(distance[r, c] - nearest) > 1.01 * STEP_M:
                # a ray along an edge: one of the two misses the solid by less than a step
                near = origin + (min(distance[r, c], nearest) + STEP_M) * ray
                kinds = zip(geometry, codes[:, 0], strict=True)
                assert not any(is_inside(g, k, near[None])[0] for g, k in kinds)
                continue
            met += nearest < ground
            expected = int(np.argmin(wanted)) if nearest < ground else -2 if ground < FAR else -1
            assert owner[r, c] == expected
    assert met > 20


def test_place_moves_rows_by_their_own_motion_and_leaves_its_input():
    parts = PrimitiveList()
    parts.add(Pattern.PLAIN, (1.0, 0.0, 0.0), (2.0, 1.0, 3.0), (1, 1, 1), yaw_rad=0.25)
    parts.add(Pattern.PLAIN, (0.0, 2.0, 0.5), (1.0, 1.0, 1.0), (1, 1, 1))
    local = parts.finish()
    before = local.geometry.copy()
    moved = place(local, np.array([10.0, -3.0]), np.array([20.0, 4.0]), np.array([np.pi / 2, 0.0]))
    np.testing.assert_array_equal(local.geometry, before)
    np.testing.assert_allclose(moved.geometry[:, :3], [[10, 21, 1.5], [-3, 6, 1.0]], atol=1e-12)
    np.testing.assert_allclose(moved.geometry[0, 3:5], [-np.sin(0.25), np.cos(0.25)], atol=1e-12)


def test_an_empty_set_has_the_columns_of_a_full_one():
    empty = PrimitiveList().finish()
    assert empty.geometry.shape == (0, GEOMETRY_COLUMNS) and len(empty) == 0
    assert empty.codes.shape == (0, CODE_COLUMNS)
