"""The ground of a scene as a picture from above: asphalt, markings, kerbs, walks, lots.

Drawn once a scene; the renderer looks it up through a pyramid, so that far lines do not flicker.
The same drawing gives the map of drivable ground.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bevstack.synthetic.streets.roads import CrossStreet, Path, RoadLayout, Side

TEXELS_PER_M = 10.0  # nuScenes' maps have 10 px/m
LEVELS = 6
OFF_ROAD, WALK, ROAD = 0, 1, 2  # values of `Ground.surface`
_MARGIN_M = 80.0
_SHIFT = 4  # fractional bits of polygon corners


@dataclass(frozen=True)
class Ground:
    """Colours and kinds of the ground; row 0 is the lowest y."""

    corner_m: np.ndarray  # (2,) x, y of the outer corner of texel (0, 0)
    texels: np.ndarray  # uint8 RGB of all levels, one after another
    levels: np.ndarray  # (LEVELS, 3) int64: first entry in `texels`, rows, columns; each half
    surface: np.ndarray  # (rows, columns) uint8: OFF_ROAD, WALK or ROAD

    def surface_at(self, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
        """Kind of ground under points; OFF_ROAD outside the drawing."""
        column = np.floor((np.asarray(x_m) - self.corner_m[0]) * TEXELS_PER_M).astype(int)
        row = np.floor((np.asarray(y_m) - self.corner_m[1]) * TEXELS_PER_M).astype(int)
        rows, columns = self.surface.shape
        inside = (row >= 0) & (column >= 0) & (row < rows) & (column < columns)
        return np.where(
            inside, self.surface[row.clip(0, rows - 1), column.clip(0, columns - 1)], OFF_ROAD
        )


@dataclass(frozen=True)
class Lot:
    """A piece of ground of its own colour beside the road."""

    corners_m: np.ndarray  # (4, 2)
    colour: tuple[float, float, float]


class _Canvas:
    """Draws metric polygons into the colour picture and the surface kinds."""

    def __init__(self, low_m: np.ndarray, high_m: np.ndarray, *, colour: np.ndarray) -> None:
        step = 2 ** (LEVELS - 1)
        size = np.ceil((high_m - low_m) * TEXELS_PER_M / step).astype(int) * step
        self.corner_m = low_m
        self.image = np.empty((size[1], size[0], 3), np.uint8)
        whole = (0, 0, int(size[0]), int(size[1]))
        cv2.rectangle(self.image, whole, tuple(int(c) for c in colour), cv2.FILLED)
        self.surface = np.zeros((size[1], size[0]), np.uint8)

    def fill(
        self, polygons: Sequence[np.ndarray], colour: np.ndarray, surface: int | None = None
    ) -> None:
        """Fills polygons (K, 2), in scene metres, one after another."""
        value = tuple(int(c) for c in colour)
        for polygon in polygons:  # one by one: together, overlaps would count as holes
            corners = self._texels(polygon)
            cv2.fillPoly(self.image, [corners], value, cv2.LINE_AA, _SHIFT)
            if surface is not None:
                cv2.fillPoly(self.surface, [corners], surface, cv2.LINE_8, _SHIFT)

    def fill_apart(self, quads: np.ndarray, colour: np.ndarray) -> None:
        """Fills quadrilaterals (N, 4, 2) that do not overlap each other, at once."""
        if len(quads):
            value = tuple(int(c) for c in colour)
            cv2.fillPoly(self.image, list(self._texels(quads)), value, cv2.LINE_AA, _SHIFT)

    def _texels(self, points_m: np.ndarray) -> np.ndarray:
        texels = (points_m - self.corner_m) * TEXELS_PER_M - 0.5
        return np.round(texels * (1 << _SHIFT)).astype(np.int32)


def _band(path: Path, low_m: float, high_m: float, s0: float = -1e9, s1: float = 1e9) -> np.ndarray:
    inside = path.s_m[(path.s_m > s0) & (path.s_m < s1)]
    s = np.concatenate([[max(s0, 0.0)], inside, [min(s1, path.length_m)]])
    a = np.stack(path.at(s, low_m)[:2], axis=1)
    b = np.stack(path.at(s, high_m)[:2], axis=1)
    return np.concatenate([a, b[::-1]])


def _quads(
    path: Path,
    low_m: np.ndarray | float,
    high_m: np.ndarray | float,
    starts_m: np.ndarray | float,
    ends_m: np.ndarray | float,
) -> np.ndarray:
    """Quadrilaterals (N, 4, 2) between two offsets and two arc lengths each."""
    low, high, start, end = np.broadcast_arrays(low_m, high_m, starts_m, ends_m)
    corners = [path.at(start, low), path.at(end, low), path.at(end, high), path.at(start, high)]
    return np.stack([np.stack(corner[:2], axis=-1) for corner in corners], axis=-2).reshape(
        -1, 4, 2
    )


def _dashes(path: Path, offset_m: float) -> np.ndarray:
    starts = np.arange(0.0, path.length_m - 3.0, 9.0)
    return _quads(path, offset_m - 0.07, offset_m + 0.07, starts, starts + 3.0)


def _pieces(layout: RoadLayout, margin_m: float) -> list[tuple[float, float]]:
    """Stretches of the centre line between junctions."""
    cuts = [
        (c.centre_s_m - c.half_width_m - margin_m, c.centre_s_m + c.half_width_m + margin_m)
        for c in layout.crossings
    ]
    edges = [0.0, *(value for cut in cuts for value in cut), layout.centre.length_m]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a + 2.0]


def _draw_surfaces(
    canvas: _Canvas, layout: RoadLayout, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    walk = np.array([150, 146, 140]) + rng.integers(-25, 25)
    kerb = np.array([178, 176, 172]) + rng.integers(-15, 15)
    asphalt = np.array([82, 82, 85]) + rng.integers(-22, 22)
    low, high = layout.right, layout.left
    main = (-low.back_m, high.back_m, -low.kerb_m, high.kerb_m)
    streets = [(layout.centre, *main)] + [
        (
            c.path,
            -c.half_width_m - c.walk_m,
            c.half_width_m + c.walk_m,
            -c.half_width_m,
            c.half_width_m,
        )
        for c in layout.crossings
    ]
    canvas.fill([_band(p, a, b) for p, a, b, _, _ in streets], walk, WALK)
    for path, a, b, _, _ in streets:
        joints = np.arange(0.0, path.length_m, 2.0)
        canvas.fill_apart(_quads(path, a, b, joints, joints + 0.06), walk * 0.82)
    canvas.fill([_band(p, a - 0.18, b + 0.18) for p, _, _, a, b in streets], kerb)
    canvas.fill([_band(p, a, b) for p, _, _, a, b in streets], asphalt, ROAD)
    return asphalt, walk


def _draw_lines(canvas: _Canvas, layout: RoadLayout, rng: np.random.Generator) -> None:
    white = np.array([215, 215, 210]) - rng.integers(0, 25)
    yellow = np.array([205, 165, 50])
    centre, offsets = layout.centre, sorted(layout.lane_offsets_m)
    two_way = len({lane.is_forward for lane in layout.lanes if lane.is_main}) == 2
    for low, high in _pieces(layout, 5.0):
        pieces = centre.s_m[(centre.s_m >= low) & (centre.s_m <= high)]
        if len(pieces) < 4:
            continue
        part = Path(
            centre.points_m[(centre.s_m >= low) & (centre.s_m <= high)],
            centre.heading_rad[(centre.s_m >= low) & (centre.s_m <= high)],
            pieces - pieces[0],
        )
        for a, b in itertools.pairwise(offsets):
            if a < 0 < b and two_way:
                gap = max(layout.median_m / 2, 0.13)
                for d in (-gap, gap):
                    canvas.fill([_band(part, d - 0.07, d + 0.07)], yellow)
            else:
                canvas.fill_apart(_dashes(part, (a + b) / 2), white)
        for side in (layout.left, layout.right):
            _draw_side_lines(canvas, part, side, white)
        if layout.median_m:
            half = layout.median_m / 2 - 0.25
            canvas.fill([_band(part, -half, half)], np.array([96, 112, 70]), WALK)


def _draw_side_lines(canvas: _Canvas, part: Path, side: Side, white: np.ndarray) -> None:
    for edge in (side.lanes_edge_m, side.lanes_edge_m + side.bike_m):
        if edge < side.kerb_m - 0.3:
            d = side.sign * edge
            canvas.fill([_band(part, d - 0.06, d + 0.06)], white)
    if side.parking_m:
        a, b = side.sign * (side.kerb_m - side.parking_m), side.sign * side.kerb_m
        stalls = np.arange(1.0, part.length_m - 1.0, 6.0)
        canvas.fill_apart(_quads(part, a, b, stalls, stalls + 0.1), white)


def _zebra(path: Path, s0: float, s1: float, low_m: float, high_m: float) -> np.ndarray:
    offsets = np.arange(low_m + 0.3, high_m - 0.6, 1.0)
    return _quads(path, offsets, offsets + 0.5, s0, s1)


def _draw_junction(
    canvas: _Canvas, layout: RoadLayout, crossing: CrossStreet, asphalt: np.ndarray
) -> None:
    white = np.array([212, 212, 208])
    low, high = -layout.right.kerb_m, layout.left.kerb_m
    centre, s = layout.centre, crossing.centre_s_m
    gap = crossing.half_width_m
    for near, far in ((s - gap - 4.0, s - gap - 1.0), (s + gap + 1.0, s + gap + 4.0)):
        canvas.fill_apart(_zebra(centre, near, far, low, high), white)
    for lane, offset in zip(layout.lanes, layout.lane_offsets_m, strict=False):
        stop = s + (-gap - 5.0 if lane.is_forward else gap + 4.7)
        half = layout.lane_width_m / 2 - 0.1
        canvas.fill([_band(centre, offset - half, offset + half, stop, stop + 0.35)], white)
    middle = crossing.path.length_m / 2
    for reach, sign in ((layout.right.kerb_m, -1.0), (layout.left.kerb_m, 1.0)):
        a, b = middle + sign * (reach + 1.0), middle + sign * (reach + 4.0)
        canvas.fill_apart(_zebra(crossing.path, a, b, -gap, gap), white)
        c = middle + sign * (reach + 6.0)
        end = 0.0 if sign < 0 else crossing.path.length_m
        canvas.fill(
            [_band(crossing.path, -0.07, 0.07, min(c, end), max(c, end))], np.array([205, 165, 50])
        )


def _weather_texture(image: np.ndarray, rng: np.random.Generator) -> None:
    """Grain and blotches, in place: one tile of noise, repeated."""
    size = 512
    fine = rng.normal(0.0, 5.5, (size, size)).astype(np.float32)
    coarse = cv2.resize(
        rng.normal(0.0, 5.0, (20, 20)).astype(np.float32),
        (size, size),
        interpolation=cv2.INTER_CUBIC,
    )
    tile = np.round(128 + fine + coarse).clip(64, 192).astype(np.uint8)
    tile = np.repeat(tile[:, :, None], 3, axis=2)
    for row in range(0, image.shape[0], size):
        for column in range(0, image.shape[1], size):
            part = image[row : row + size, column : column + size]
            cv2.multiply(part, tile[: part.shape[0], : part.shape[1]], part, 1 / 128)


def draw_ground(
    layout: RoadLayout,
    lots: list[Lot],
    rng: np.random.Generator,
    seen_m: np.ndarray,  # (K, 2)
) -> Ground:
    """Draws the ground around the streets where the ego may be.

    Args:
        layout: streets.
        lots: pieces of ground beside them, drawn first.
        rng: draws colours and grain.
        seen_m: points of their centre lines, from where the ego may begin to where it may end.
    """
    low, high = seen_m.min(axis=0) - _MARGIN_M, seen_m.max(axis=0) + _MARGIN_M
    verges = np.array([[92, 110, 62], [118, 112, 84], [128, 124, 118], [104, 112, 92]])
    verge = verges[rng.integers(len(verges))] + rng.integers(-12, 12, 3)
    canvas = _Canvas(low, high, colour=verge)
    for lot in lots:
        canvas.fill([lot.corners_m], np.array(lot.colour) * 255)
    asphalt, _ = _draw_surfaces(canvas, layout, rng)
    _draw_lines(canvas, layout, rng)
    for crossing in layout.crossings:
        _draw_junction(canvas, layout, crossing, asphalt)
    _weather_texture(canvas.image, rng)
    return Ground(canvas.corner_m, *_pyramid(canvas.image), canvas.surface)


def _pyramid(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its halvings in one array, with where each begins and its size."""
    texels, levels = [image.ravel()], [(0, *image.shape[:2])]
    for _ in range(LEVELS - 1):
        image = cv2.resize(
            image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA
        )
        levels.append((sum(len(t) for t in texels), *image.shape[:2]))
        texels.append(image.ravel())
    return np.concatenate(texels), np.array(levels, np.int64)
