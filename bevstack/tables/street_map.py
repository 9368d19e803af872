"""Maps of a data set: the drivable area as outlines, and the lanes, in the world frame.

nuScenes has one mask of the drivable area for each city, as a PNG file of 10 pixels a metre, which
starts at the world's origin. Synthetic worlds have one for each scene, and the table row holds its
corner. Lanes are the rows of `lane.json`, which only synthetic worlds have.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.tables.names import LANE_TABLE
from bevstack.tables.reader import Tables
from bevstack.tables.traffic_elements import read_lanes

Points = NDArray[np.float64]  # (P, 2) metres, world frame

PIXELS_PER_M = 10.0  # of nuScenes' masks
MAX_PIXELS = 100_000_000  # of a mask that is read; those of nuScenes' cities are larger
_TOLERANCE_PX = 0.7  # outlines may differ from the mask's border by this distance


@dataclass(frozen=True, kw_only=True)
class StreetMap:
    """Map around one scene, in the world frame; parts that are not known are empty."""

    mask: NDArray[np.uint8]  # (rows, columns), not 0: drivable; row 0 has the highest y
    corner_m: NDArray[np.float64]  # (2,) x, y of the mask's lower left corner
    pixels_per_m: float
    lanes: tuple[Points, ...]  # centre lines

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
        """Return the pieces of the centre lines within a square."""
        pieces = []
        for lane in self.lanes:
            inside = (np.abs(lane - center_m) <= reach_m).all(1)
            cuts = np.flatnonzero(np.diff(inside)) + 1
            parts = zip(np.split(lane, cuts), np.split(inside, cuts), strict=True)
            pieces += [piece for piece, shown in parts if shown[0] and len(piece) > 1]
        return tuple(pieces)


def read_street_map(tables: Tables, scene: str) -> StreetMap:
    """Read the map of a scene, as far as the data set has one.

    Nothing is read outside the data set's folder. A mask of more than ``MAX_PIXELS`` is left out.

    Raises:
        ValueError: the data set has no such scene, or a table row is damaged; names the table.
    """
    token = str(tables.scenes.token[tables.scene_rows([scene])[0]])
    row = _map_row(tables, token)
    mask = None if row is None else _read_mask(tables.root, str(row.get("filename", "")))
    if row is None or mask is None:
        mask, row = np.zeros((0, 0), np.uint8), {}
    try:
        corner_m = np.array(row.get("corner_m", (0.0, 0.0)), np.float64).reshape(2)
        pixels_per_m = float(row.get("pixels_per_m", PIXELS_PER_M))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"corner_m and pixels_per_m in map.json must be numbers; got {row}"
        ) from error
    if not (np.isfinite(corner_m).all() and pixels_per_m > 0):
        raise ValueError(f"corner_m and pixels_per_m in map.json must be finite; got {row}")
    return StreetMap(
        mask=mask,
        corner_m=corner_m,
        pixels_per_m=pixels_per_m,
        lanes=_lanes(tables.folder, token),
    )


def _map_row(tables: Tables, scene_token: str) -> dict[str, Any] | None:
    """Return the row of `map.json` that belongs to a scene's log; None if there is none."""
    scenes, maps = (_rows(tables.folder / f"{table}.json") for table in ("scene", "map"))
    logs = {row.get("log_token") for row in scenes if row.get("token") == scene_token}
    for row in maps:
        tokens = row.get("log_tokens")
        if isinstance(tokens, list) and logs & {t for t in tokens if isinstance(t, str)}:
            return row
    return None


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table that are objects; none if there is no such table."""
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} must be JSON; got {error}: the file is damaged") from error
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _read_mask(root: Path, filename: str) -> NDArray[np.uint8] | None:
    """Return a mask; None if the file does not exist, is no PNG, or is too large to read."""
    path = (root / filename).resolve()
    if not path.is_relative_to(root.resolve()) or path.suffix != ".png" or not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(24)  # signature, then width and height in the header
    width, height = (int.from_bytes(start[k : k + 4], "big") for k in (16, 20))
    if start[1:4] != b"PNG" or not 0 < width * height <= MAX_PIXELS:
        return None
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    return None if mask is None else np.asarray(mask, np.uint8)


def _lanes(folder: Path, scene_token: str) -> tuple[Points, ...]:
    if not (folder / f"{LANE_TABLE}.json").is_file():
        return ()
    lanes = (lane for lane in read_lanes(folder).values() if lane.scene_token == scene_token)
    return tuple(lane.points_m[:, :2] for lane in lanes)
