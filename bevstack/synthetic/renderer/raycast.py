"""Ray casting of primitives: z-buffer of a camera and range image of the lidar (numba, one thread).

A primitive is only tested against the rays of the rectangle that it can cover. fastmath is off,
because equal seeds must give equal bytes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.renderer.compiled import compiled_nogil, inlined

FAR = 1e30  # distance where a ray hits nothing
_NEAR_M = 0.05


@inlined
def _box(
    g: NDArray[np.float64],  # (12,) row of `Primitives.geometry`
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
) -> float:
    """Intersect a ray with a box whose sides may lean, one pair of planes after another."""
    inverse = 1.0 / (dz if dz != 0.0 else 1e-12)
    a, b = (-g[7] - oz) * inverse, (g[7] - oz) * inverse
    t0, t1 = max(0.0, min(a, b)), max(a, b)
    if t0 > t1:
        return 1e30
    rise = oz + g[7]
    for axis in range(2):
        if axis == 0:
            half, o, d, lean0, lean1 = g[5], ox, dx, g[8], g[9]
        else:
            half, o, d, lean0, lean1 = g[6], oy, dy, g[10], g[10]
        n0, n1 = half - o - lean0 * rise, half + o - lean1 * rise
        d0, d1 = d + lean0 * dz, -d + lean1 * dz
        if d0 > 0.0:
            t1 = min(t1, n0 / d0)
        elif d0 < 0.0:
            t0 = max(t0, n0 / d0)
        elif n0 < 0.0:
            return 1e30
        if d1 > 0.0:
            t1 = min(t1, n1 / d1)
        elif d1 < 0.0:
            t0 = max(t0, n1 / d1)
        elif n1 < 0.0:
            return 1e30
        if t0 > t1:
            return 1e30
    return t0 if t0 > 0.0 else 1e30


@inlined
def _ellipsoid(
    g: NDArray[np.float64],  # (12,) row of `Primitives.geometry`
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
) -> float:
    ax, ay, az = ox / g[5], oy / g[6], oz / g[7]
    bx, by, bz = dx / g[5], dy / g[6], dz / g[7]
    a = bx * bx + by * by + bz * bz
    b = ax * bx + ay * by + az * bz
    c = ax * ax + ay * ay + az * az - 1.0
    root = b * b - a * c
    if root < 0.0:
        return 1e30
    t = (-b - math.sqrt(root)) / a
    return t if t > 0.0 else 1e30


@inlined
def _cylinder(
    radius_a: float,
    radius_b: float,
    half: float,
    hole: float,
    oa: float,
    ob: float,
    oc: float,
    da: float,
    db: float,
    dc: float,
) -> float:
    """Intersect a ray with an elliptic cylinder along c; rays pass through a hole in the caps."""
    inv = 1.0 / (dc if dc != 0.0 else 1e-12)
    a, b = (-half - oc) * inv, (half - oc) * inv
    cap0, cap1 = min(a, b), max(a, b)
    pa, pb, qa, qb = oa / radius_a, ob / radius_b, da / radius_a, db / radius_b
    aa = qa * qa + qb * qb + 1e-18
    bb = pa * qa + pb * qb
    root = bb * bb - aa * (pa * pa + pb * pb - 1.0)
    if root < 0.0:
        return 1e30
    root = math.sqrt(root)
    t0, t1 = max((-bb - root) / aa, cap0), min((-bb + root) / aa, cap1)
    if t0 > t1 or t0 <= 0.0:
        return 1e30
    if hole > 0.0:
        ra, rb = oa + t0 * da, ob + t0 * db
        if ra * ra + rb * rb < hole * hole:
            return 1e30
    return t0


@inlined
def _hit(
    kind: int,
    g: NDArray[np.float64],  # (12,) row of `Primitives.geometry`
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
) -> float:
    """Return the distance to a primitive along a ray, in units of its direction; 1e30 for a miss.

    Origin (ox, oy, oz) and direction (dx, dy, dz) are in the primitive's frame.
    """
    if kind == 0:
        return _box(g, ox, oy, oz, dx, dy, dz)
    if kind == 1:
        return _ellipsoid(g, ox, oy, oz, dx, dy, dz)
    if kind == 4:
        return _cylinder(g[5], g[6], g[7], 0.0, ox, oy, oz, dx, dy, dz)
    return _cylinder(g[5], g[7], g[6], g[11] if kind == 3 else 0.0, ox, oz, oy, dx, dz, dy)


@compiled_nogil
def pixel_bounds(
    g: NDArray[np.float64],  # (12,) row of `Primitives.geometry`
    origin: NDArray[np.float64],  # (3,)
    cam_from_scene: NDArray[np.float64],  # (3, 3)
    intrinsics: NDArray[np.float64],  # (3, 3)
    height: int,
    width: int,
    bounds: NDArray[np.int64],  # (4,) out
) -> float:
    """Bound the pixels that a primitive may cover.

    Write the half-open ranges (row0, row1, col0, col1) into `bounds`. Return the primitive's least
    depth in m, FAR if it is out of view.
    """
    xs = np.empty(8)
    ys = np.empty(8)
    zs = np.empty(8)
    for corner in range(8):
        lx = g[5] if corner & 1 else -g[5]
        ly = g[6] if corner & 2 else -g[6]
        lz = g[7] if corner & 4 else -g[7]
        x = g[0] + g[3] * lx - g[4] * ly - origin[0]
        y = g[1] + g[4] * lx + g[3] * ly - origin[1]
        z = g[2] + lz - origin[2]
        xs[corner] = cam_from_scene[0, 0] * x + cam_from_scene[0, 1] * y + cam_from_scene[0, 2] * z
        ys[corner] = cam_from_scene[1, 0] * x + cam_from_scene[1, 1] * y + cam_from_scene[1, 2] * z
        zs[corner] = cam_from_scene[2, 0] * x + cam_from_scene[2, 1] * y + cam_from_scene[2, 2] * z
    u0, u1, v0, v1, nearest = 1e30, -1e30, 1e30, -1e30, 1e30
    for a in range(8):
        for axis in range(-1, 3):
            b = a if axis < 0 else a ^ (1 << axis)
            if zs[a] < _NEAR_M and (b == a or zs[b] < _NEAR_M):
                continue
            if zs[a] >= _NEAR_M:
                if b != a:
                    continue
                x, y, z = xs[a], ys[a], zs[a]
            else:  # the edge crosses the near plane: bound by its crossing
                w = (_NEAR_M - zs[a]) / (zs[b] - zs[a])
                x, y, z = xs[a] + w * (xs[b] - xs[a]), ys[a] + w * (ys[b] - ys[a]), _NEAR_M
            nearest = min(nearest, z)
            u = intrinsics[0, 0] * x / z + intrinsics[0, 2]
            v = intrinsics[1, 1] * y / z + intrinsics[1, 2]
            u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
    if u1 < 0.0 or v1 < 0.0 or u0 > width or v0 > height:
        return 1e30
    bounds[0] = max(0, math.floor(max(v0, 0.0) - 0.5))
    bounds[1] = min(height, int(min(v1, float(height))) + 1)
    bounds[2] = max(0, math.floor(max(u0, 0.0) - 0.5))
    bounds[3] = min(width, int(min(u1, float(width))) + 1)
    return nearest


@compiled_nogil
def rasterise(
    geometry: NDArray[np.float64],  # (P, 12)
    codes: NDArray[np.int32],  # (P, 4)
    origin: NDArray[np.float64],  # (3,)
    scene_from_cam: NDArray[np.float64],  # (3, 3)
    intrinsics: NDArray[np.float64],  # (3, 3)
    depth: NDArray[np.float64],  # (H, W) out
    owner: NDArray[np.int32],  # (H, W) out
    stamp: NDArray[np.int32],  # (H, W) scratch
    unoccluded: NDArray[np.int64],  # (instances,) in and out
) -> None:
    """Fill the z-buffer of one camera.

    Args:
        geometry: of `Primitives`; the rows of one instance are adjacent.
        codes: of `Primitives`.
        origin: camera centre in the scene, m.
        scene_from_cam: rotation.
        intrinsics: px.
        depth: along the optical axis, m; FAR where nothing was hit.
        owner: row of the nearest primitive, or -1.
        stamp: scratch memory; must not hold any instance index + 1.
        unoccluded: receives the number of pixels that each instance would cover with nothing in
            front of it.
    """
    height, width = depth.shape
    cam_from_scene = np.ascontiguousarray(scene_from_cam.T)
    bounds = np.empty(4, np.int64)
    ray = np.empty((3, 3))
    depth[:] = FAR
    owner[:] = -1
    for p in range(geometry.shape[0]):
        g = geometry[p]
        least = pixel_bounds(g, origin, cam_from_scene, intrinsics, height, width, bounds)
        if least >= FAR:
            continue
        x, y = origin[0] - g[0], origin[1] - g[1]
        ox, oy, oz = g[3] * x + g[4] * y, g[3] * y - g[4] * x, origin[2] - g[2]
        for c in range(3):  # direction in the primitive's frame = ray @ (u, v, 1)
            ray[0, c] = g[3] * scene_from_cam[0, c] + g[4] * scene_from_cam[1, c]
            ray[1, c] = g[3] * scene_from_cam[1, c] - g[4] * scene_from_cam[0, c]
            ray[2, c] = scene_from_cam[2, c]
        kind, instance = codes[p, 0], codes[p, 2]
        for row in range(bounds[0], bounds[1]):
            cy = (row + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
            rx, ry, rz = (
                ray[0, 1] * cy + ray[0, 2],
                ray[1, 1] * cy + ray[1, 2],
                ray[2, 1] * cy + ray[2, 2],
            )
            for col in range(bounds[2], bounds[3]):
                if instance < 0 and depth[row, col] < least:
                    continue  # hidden scenery: its pixels are not counted
                cx = (col + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
                t = _hit(
                    kind,
                    g,
                    ox,
                    oy,
                    oz,
                    rx + ray[0, 0] * cx,
                    ry + ray[1, 0] * cx,
                    rz + ray[2, 0] * cx,
                )
                if t >= FAR:
                    continue
                if instance >= 0 and stamp[row, col] != instance + 1:
                    stamp[row, col] = instance + 1
                    unoccluded[instance] += 1
                if t < depth[row, col]:
                    depth[row, col] = t
                    owner[row, col] = p


@compiled_nogil
def sweep(
    geometry: NDArray[np.float64],  # (P, 12)
    codes: NDArray[np.int32],  # (P, 4)
    origin: NDArray[np.float64],  # (3,)
    elevations: NDArray[np.float64],  # (R,)
    azimuths: NDArray[np.float64],  # (A,)
    ground_z: float,
    range_out: NDArray[np.float64],  # (R, A) out
    owner: NDArray[np.int32],  # (R, A) out
) -> None:
    """Find the nearest hit of every beam in one revolution of the lidar.

    Args:
        geometry: of `Primitives`.
        codes: of `Primitives`.
        origin: of the sensor in the scene, m.
        elevations: of the beams, rad, ascending.
        azimuths: in the scene frame, rad, ascending and evenly spaced over one revolution.
        ground_z: height of the ground, m.
        range_out: distances, m; FAR where nothing was hit.
        owner: row of the primitive, -1 for nothing, -2 for the ground.
    """
    rings, columns = range_out.shape
    step = 2.0 * math.pi / columns
    ce, se = np.cos(elevations), np.sin(elevations)
    ca, sa = np.cos(azimuths), np.sin(azimuths)
    for r in range(rings):
        t = (ground_z - origin[2]) / se[r] if se[r] < 0.0 else FAR
        range_out[r, :] = t
        owner[r, :] = -2 if t < FAR else -1
    for p in range(geometry.shape[0]):
        g = geometry[p]
        x, y, oz = origin[0] - g[0], origin[1] - g[1], origin[2] - g[2]
        ox, oy = g[3] * x + g[4] * y, g[3] * y - g[4] * x
        radius = math.hypot(g[5], g[6])
        distance = math.hypot(x, y)
        first, count = 0, columns
        low, high = -math.pi / 2, math.pi / 2
        if distance > radius + 0.01:
            half = math.asin(radius / distance)
            first = math.floor((math.atan2(-y, -x) - half - azimuths[0]) / step)
            count = min(columns, int(2.0 * half / step) + 3)
            near, far = distance - radius, distance + radius
            bottom, top = -oz - g[7], -oz + g[7]
            low = math.atan2(bottom, near if bottom < 0.0 else far)
            high = math.atan2(top, near if top > 0.0 else far)
        kind = codes[p, 0]
        for r in range(rings):
            if elevations[r] < low or elevations[r] > high:
                continue
            for k in range(first, first + count):
                c = k % columns
                wx, wy = ce[r] * ca[c], ce[r] * sa[c]
                t = _hit(kind, g, ox, oy, oz, g[3] * wx + g[4] * wy, g[3] * wy - g[4] * wx, se[r])
                if t < range_out[r, c]:
                    range_out[r, c] = t
                    owner[r, c] = p
