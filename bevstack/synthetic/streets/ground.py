"""Ground of a scene as an image from above: asphalt, markings, kerbs, sidewalks, lots.

It is drawn once per scene. The renderer samples it through a pyramid, so that distant lines do not
flicker. The map of the drivable area is made from the same image.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.streets.roads import CrossStreet, Path, RoadLayout, Side

TEXELS_PER_M = 10.0  # nuScenes' maps have 10 px/m
LEVELS = 6
OFF_ROAD, WALK, ROAD = 0, 1, 2  # values of `Ground.surface`
_MARGIN_M = 80.0
_SHIFT = 4  # fractional bits of polygon corners
_Colour = NDArray[np.int64] | NDArray[np.float64]  # (3,) RGB, 0..255


@dataclass(frozen=True)
class Ground:
    """Colours and surface types of the ground; row 0 is the lowest y."""

    corner_m: NDArray[np.float64]  # (2,) x, y of the outer corner of texel (0, 0)
    texels: NDArray[np.uint8]  # RGB of all levels, one after another
    levels: NDArray[np.int64]  # (LEVELS, 3) first entry in `texels`, rows, columns; each half
    surface: NDArray[np.uint8]  # (rows, columns) OFF_ROAD, WALK or ROAD

    def surface_at(
        self, x_m: NDArray[np.float64] | float, y_m: NDArray[np.float64] | float
    ) -> NDArray[np.int64]:
        """Return the surface type at points of the scene; OFF_ROAD outside the image."""
        column = np.floor((np.asarray(x_m) - self.corner_m[0]) * TEXELS_PER_M).astype(int)
        row = np.floor((np.asarray(y_m) - self.corner_m[1]) * TEXELS_PER_M).astype(int)
        rows, columns = self.surface.shape
        inside = (row >= 0) & (column >= 0) & (row < rows) & (column < columns)
        return np.where(
            inside, self.surface[row.clip(0, rows - 1), column.clip(0, columns - 1)], OFF_ROAD
        )


@dataclass(frozen=True)
class Lot:
    """A coloured quadrilateral of ground beside the road."""

    corners_m: NDArray[np.float64]  # (4, 2)
    colour: tuple[float, float, float]


class _Canvas:
    """Drawing of polygons in metres into the colour image and the surface types."""

    def __init__(
        self,
        low_m: NDArray[np.float64],  # (2,)
        high_m: NDArray[np.float64],  # (2,)
        *,
        colour: NDArray[np.int64],  # (3,) 0..255
    ) -> None:
        step = 2 ** (LEVELS - 1)
        size = np.ceil((high_m - low_m) * TEXELS_PER_M / step).astype(int) * step
        self.corner_m = low_m
        self.image = np.empty((size[1], size[0], 3), np.uint8)
        whole = (0, 0, int(size[0]), int(size[1]))
        cv2.rectangle(self.image, whole, tuple(int(c) for c in colour), cv2.FILLED)
        self.surface = np.zeros((size[1], size[0]), np.uint8)

    def fill(
        self,
        polygons: Sequence[NDArray[np.float64]],
        colour: _Colour,
        surface: int | None = None,
    ) -> None:
        """Fill polygons (K, 2) in scene metres, one after another."""
        value = tuple(int(c) for c in colour)
        for polygon in polygons:  # one call per polygon: in one call, overlaps would be holes
            corners = self._texels(polygon)
            cv2.fillPoly(self.image, [corners], value, cv2.LINE_AA, _SHIFT)
            if surface is not None:
                cv2.fillPoly(self.surface, [corners], (surface,), cv2.LINE_8, _SHIFT)

    def fill_disjoint(self, quads: NDArray[np.float64], colour: _Colour) -> None:
        """Fill quadrilaterals (N, 4, 2) that do not overlap, in one call."""
        if len(quads):
            value = tuple(int(c) for c in colour)
            cv2.fillPoly(self.image, list(self._texels(quads)), value, cv2.LINE_AA, _SHIFT)

    def _texels(self, points_m: NDArray[np.float64]) -> NDArray[np.int32]:
        texels = (points_m - self.corner_m) * TEXELS_PER_M - 0.5
        fixed_point: NDArray[np.int32] = np.round(texels * (1 << _SHIFT)).astype(np.int32)
        return fixed_point


def _band(
    path: Path, low_m: float, high_m: float, s0: float = -1e9, s1: float = 1e9
) -> NDArray[np.float64]:
    """Return the polygon (K, 2) between two offsets and two arc lengths of a path."""
    inside = path.s_m[(path.s_m > s0) & (path.s_m < s1)]
    s = np.concatenate([[max(s0, 0.0)], inside, [min(s1, path.length_m)]])
    a = np.stack(path.at(s, low_m)[:2], axis=1)
    b = np.stack(path.at(s, high_m)[:2], axis=1)
    return np.concatenate([a, b[::-1]])


def _quads(
    path: Path,
    low_m: NDArray[np.float64] | float,
    high_m: NDArray[np.float64] | float,
    starts_m: NDArray[np.float64] | float,
    ends_m: NDArray[np.float64] | float,
) -> NDArray[np.float64]:
    """Return quadrilaterals (N, 4, 2), each between two offsets and two arc lengths."""
    low, high, start, end = np.broadcast_arrays(low_m, high_m, starts_m, ends_m)
    corners = [path.at(start, low), path.at(end, low), path.at(end, high), path.at(start, high)]
    quads: NDArray[np.float64] = np.stack(
        [np.stack(corner[:2], axis=-1) for corner in corners], axis=-2
    ).reshape(-1, 4, 2)
    return quads


def _dashes(path: Path, offset_m: float) -> NDArray[np.float64]:
    """Return the dashes (N, 4, 2) of a lane marking: 3 m long, one every 9 m."""
    starts = np.arange(0.0, path.length_m - 3.0, 9.0)
    return _quads(path, offset_m - 0.07, offset_m + 0.07, starts, starts + 3.0)


def _pieces(layout: RoadLayout, margin_m: float) -> list[tuple[float, float]]:
    """Return the arc lengths at both ends of each part of the centre line between junctions."""
    cuts = [
        (c.centre_s_m - c.half_width_m - margin_m, c.centre_s_m + c.half_width_m + margin_m)
        for c in layout.crossings
    ]
    edges = [0.0, *(value for cut in cuts for value in cut), layout.centre.length_m]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a + 2.0]


def _draw_surfaces(canvas: _Canvas, layout: RoadLayout, rng: np.random.Generator) -> None:
    """Draw sidewalks, kerbs and carriageways."""
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
        canvas.fill_disjoint(_quads(path, a, b, joints, joints + 0.06), walk * 0.82)
    canvas.fill([_band(p, a - 0.18, b + 0.18) for p, _, _, a, b in streets], kerb)
    canvas.fill([_band(p, a, b) for p, _, _, a, b in streets], asphalt, ROAD)


def _draw_lines(canvas: _Canvas, layout: RoadLayout, rng: np.random.Generator) -> None:
    """Draw the markings along the main road, between the junctions."""
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
                canvas.fill_disjoint(_dashes(part, (a + b) / 2), white)
        for side in (layout.left, layout.right):
            _draw_side_lines(canvas, part, side, white)
        if layout.median_m:
            half = layout.median_m / 2 - 0.25
            canvas.fill([_band(part, -half, half)], np.array([96, 112, 70]), WALK)


def _draw_side_lines(canvas: _Canvas, part: Path, side: Side, white: _Colour) -> None:
    for edge in (side.lanes_edge_m, side.lanes_edge_m + side.bike_m):
        if edge < side.kerb_m - 0.3:
            d = side.sign * edge
            canvas.fill([_band(part, d - 0.06, d + 0.06)], white)
    if side.parking_m:
        a, b = side.sign * (side.kerb_m - side.parking_m), side.sign * side.kerb_m
        stalls = np.arange(1.0, part.length_m - 1.0, 6.0)
        canvas.fill_disjoint(_quads(part, a, b, stalls, stalls + 0.1), white)


def _zebra(path: Path, s0: float, s1: float, low_m: float, high_m: float) -> NDArray[np.float64]:
    """Return the stripes (N, 4, 2) of a zebra crossing, parallel to the path."""
    offsets = np.arange(low_m + 0.3, high_m - 0.6, 1.0)
    return _quads(path, offsets, offsets + 0.5, s0, s1)


def _draw_junction(canvas: _Canvas, layout: RoadLayout, crossing: CrossStreet) -> None:
    """Draw the zebra crossings, stop lines and centre lines of a junction."""
    white = np.array([212, 212, 208])
    low, high = -layout.right.kerb_m, layout.left.kerb_m
    centre, s = layout.centre, crossing.centre_s_m
    gap = crossing.half_width_m
    for near, far in ((s - gap - 4.0, s - gap - 1.0), (s + gap + 1.0, s + gap + 4.0)):
        canvas.fill_disjoint(_zebra(centre, near, far, low, high), white)
    for lane, offset in zip(layout.lanes, layout.lane_offsets_m, strict=False):
        stop = s + (-gap - 5.0 if lane.is_forward else gap + 4.7)
        half = layout.lane_width_m / 2 - 0.1
        canvas.fill([_band(centre, offset - half, offset + half, stop, stop + 0.35)], white)
    middle = crossing.path.length_m / 2
    for reach, sign in ((layout.right.kerb_m, -1.0), (layout.left.kerb_m, 1.0)):
        a, b = middle + sign * (reach + 1.0), middle + sign * (reach + 4.0)
        canvas.fill_disjoint(_zebra(crossing.path, a, b, -gap, gap), white)
        c = middle + sign * (reach + 6.0)
        end = 0.0 if sign < 0 else crossing.path.length_m
        canvas.fill(
            [_band(crossing.path, -0.07, 0.07, min(c, end), max(c, end))], np.array([205, 165, 50])
        )


def _add_grain(
    image: NDArray[np.uint8],  # (rows, columns, 3) in and out
    rng: np.random.Generator,
) -> None:
    """Multiply an image with a repeated tile of fine and coarse noise, in place."""
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
    drivable_m: NDArray[np.float64],  # (P, 2)
) -> Ground:
    """Draw the ground around the streets along which the ego may drive.

    Args:
        layout: streets.
        lots: ground beside the streets, drawn first.
        rng: draws colours and grain.
        drivable_m: points of the centre lines along which the ego may drive. The image covers them
            with a margin.
    """
    low, high = drivable_m.min(axis=0) - _MARGIN_M, drivable_m.max(axis=0) + _MARGIN_M
    verges = np.array([[92, 110, 62], [118, 112, 84], [128, 124, 118], [104, 112, 92]])
    verge = verges[rng.integers(len(verges))] + rng.integers(-12, 12, 3)
    canvas = _Canvas(low, high, colour=verge)
    for lot in lots:
        canvas.fill([lot.corners_m], np.array(lot.colour) * 255)
    _draw_surfaces(canvas, layout, rng)
    _draw_lines(canvas, layout, rng)
    for crossing in layout.crossings:
        _draw_junction(canvas, layout, crossing)
    _add_grain(canvas.image, rng)
    return Ground(canvas.corner_m, *_pyramid(canvas.image), canvas.surface)


def _pyramid(
    image: NDArray[np.uint8],  # (rows, columns, 3)
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the texels of an image and its halvings in one array, and the table of levels."""
    texels, levels = [image.ravel()], [(0, *image.shape[:2])]
    for _ in range(LEVELS - 1):
        half = (image.shape[1] // 2, image.shape[0] // 2)
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)
        levels.append((sum(len(t) for t in texels), *image.shape[:2]))
        texels.append(image.ravel())
    return np.concatenate(texels), np.array(levels, np.int64)
