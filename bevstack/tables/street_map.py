"""Maps of a data set: the drivable area as outlines, and the lanes, in the world frame.

nuScenes has one mask of the drivable area for each city, as a PNG file of 10 pixels a metre, which
starts at the world's origin. Synthetic worlds have one for each scene, and the table row holds its
corner. Lanes are the rows of `lane.json`, which only synthetic worlds have, or the lane borders of
nuScenes' map expansion.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.file_bytes import read_bytes
from bevstack.file_names import path_inside
from bevstack.json_files import read_json
from bevstack.tables.map_expansion import read_lane_borders
from bevstack.tables.names import LANE_TABLE
from bevstack.tables.png_window import png_size, read_png_window
from bevstack.tables.reader import Tables
from bevstack.tables.traffic_elements import read_lanes

Points = NDArray[np.float64]  # (P, 2) metres, world frame

PIXELS_PER_M = 10.0  # of nuScenes' masks
MAX_PIXELS = 100_000_000  # of the part of a mask that is kept in memory
MAX_BYTES = 200_000_000  # of a file
_TOLERANCE_PX = 0.7  # outlines may differ from the mask's border by this distance


@dataclass(frozen=True, kw_only=True)
class StreetMap:
    """Map of a region, in the world frame; parts that are not known are empty."""

    mask: NDArray[np.uint8]  # (rows, columns), not 0: drivable; row 0 has the highest y
    corner_m: NDArray[np.float64]  # (2,) x, y of the mask's lower left corner
    pixels_per_m: float
    lanes: tuple[Points, ...]  # centre lines, or the borders between lanes

    def drivable_around(
        self,
        center_m: NDArray[np.float64],  # (2,)
        reach_m: float,
    ) -> tuple[Points, ...]:
        """Return outlines of the drivable area within a square, holes among them."""
        rows, columns = self.mask.shape
        corner = (center_m - reach_m - self.corner_m) * self.pixels_per_m
        left, low = (max(int(value), 0) for value in corner)
        side = int(2 * reach_m * self.pixels_per_m)
        right, high = min(int(corner[0]) + side, columns), min(int(corner[1]) + side, rows)
        if left >= right or low >= high:
            return ()
        part = self.mask[rows - high : rows - low, left:right]
        found, _ = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        outlines = (cv2.approxPolyDP(outline, _TOLERANCE_PX, True)[:, 0] for outline in found)
        return tuple(
            self.corner_m
            + np.stack((left + outline[:, 0] + 0.5, high - outline[:, 1] - 0.5), -1)
            / self.pixels_per_m
            for outline in outlines
            if len(outline) >= 3
        )

    def lanes_around(
        self,
        center_m: NDArray[np.float64],  # (2,)
        reach_m: float,
    ) -> tuple[Points, ...]:
        """Return the pieces of the lanes' lines within a square."""
        pieces = []
        for lane in self.lanes:
            inside = (np.abs(lane - center_m) <= reach_m).all(1)
            cuts = np.flatnonzero(np.diff(inside)) + 1
            parts = zip(np.split(lane, cuts), np.split(inside, cuts), strict=True)
            pieces += [piece for piece, shown in parts if shown[0] and len(piece) > 1]
        return tuple(pieces)


def read_street_map(
    tables: Tables,
    scene: str,
    low_m: NDArray[np.float64],  # (2,) corners of the region to read, world frame
    high_m: NDArray[np.float64],  # (2,)
) -> StreetMap:
    """Read the map of a scene in a region, as far as the data set has one.

    A region of more than ``MAX_PIXELS`` has no drivable area. One of a nuScenes city takes up to
    ten seconds, because its mask is compressed as a whole.

    Raises:
        ValueError: the data set has no such scene, a table row is damaged, its file lies outside
            the data set's folder or is not an 8-bit grey PNG, or the map expansion is damaged;
            names the table or the file.
    """
    token = str(tables.scenes.token[tables.scene_rows([scene])[0]])
    log = _find(tables, "scene", "token", token).get("log_token")
    lanes = _lanes(tables.folder, token)
    location = _find(tables, "log", "token", log).get("location")
    if not lanes and isinstance(location, str) and location:
        lanes = read_lane_borders(tables.root, location)
    row = _find(tables, "map", "log_tokens", log)
    if not row:
        return StreetMap(
            mask=np.zeros((0, 0), np.uint8), corner_m=low_m, pixels_per_m=PIXELS_PER_M, lanes=lanes
        )
    corner_m, pixels_per_m = _placement(row)
    low = np.floor((low_m - corner_m) * pixels_per_m).clip(0, 2**30).astype(int)
    high = np.ceil((high_m - corner_m) * pixels_per_m).clip(0, 2**30).astype(int)
    name = row.get("filename")
    if not isinstance(name, str):
        raise ValueError(f"filename in map.json must be text; got {ascii(name)[:80]}")
    path = path_inside(tables.root, name.replace("\\", "/"), what="filename in map.json")
    return StreetMap(
        mask=_read_mask(path, low, high),
        corner_m=corner_m + low / pixels_per_m,
        pixels_per_m=pixels_per_m,
        lanes=lanes,
    )


def _placement(row: dict[str, Any]) -> tuple[NDArray[np.float64], float]:
    """Return the corner and the scale of a mask; those of nuScenes by default."""
    corner, scale = row.get("corner_m", (0.0, 0.0)), row.get("pixels_per_m", PIXELS_PER_M)
    try:
        corner_m, pixels_per_m = np.array(corner, np.float64), float(scale)
    except (TypeError, ValueError):
        corner_m, pixels_per_m = np.full(2, np.nan), np.nan
    if corner_m.shape != (2,) or not np.isfinite(corner_m).all() or not 0 < pixels_per_m < 1e4:
        raise ValueError(
            "corner_m and pixels_per_m in map.json must be two finite numbers and a positive one; "
            f"got {ascii(corner)[:80]} and {ascii(scale)[:80]}"
        )
    return corner_m, pixels_per_m


def _find(tables: Tables, table: str, field: str, value: object) -> dict[str, Any]:
    """Return the first row whose field is a value or lists it; an empty row if there is none."""
    path = tables.folder / f"{table}.json"
    if not path.is_file() or not isinstance(value, str):
        return {}
    rows = read_json(path, path.name, max_bytes=MAX_BYTES, allow_nan=True)
    for row in rows if isinstance(rows, list) else ():
        found = row.get(field) if isinstance(row, dict) else None
        if found == value or (isinstance(found, list) and value in found):
            return dict(row)
    return {}


def _read_mask(
    path: Path,
    low: NDArray[np.int64],  # (2,) first column, and first row from below
    high: NDArray[np.int64],  # (2,) behind the last column and row
) -> NDArray[np.uint8]:
    """Return a part of a mask, nothing if the file does not exist or the part is too large."""
    nothing = np.zeros((0, 0), np.uint8)
    if not path.exists():
        return nothing
    content = read_bytes(path, "the map's mask", max_bytes=MAX_BYTES)
    height, width = png_size(content, str(path))
    columns = range(min(int(low[0]), width), min(int(high[0]), width))
    rows = range(height - min(int(high[1]), height), height - min(int(low[1]), height))
    if not 0 < len(rows) * len(columns) <= MAX_PIXELS:
        return nothing
    return read_png_window(content, str(path), rows, columns)


def _lanes(folder: Path, scene_token: str) -> tuple[Points, ...]:
    if not (folder / f"{LANE_TABLE}.json").is_file():
        return ()
    lanes = (lane for lane in read_lanes(folder).values() if lane.scene_token == scene_token)
    return tuple(lane.points_m[:, :2] for lane in lanes)
