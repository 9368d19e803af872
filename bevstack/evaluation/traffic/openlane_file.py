"""JSON files with the frames of OpenLane-V2's task, and the file of their scores.

One file holds the truth, another one the predictions, both as ``{frame: F}``, where a frame is
named "split/segment/timestamp" and F is::

    {"lane_centerline": [{"id": 0, "points": [[x, y, z], ...], "confidence": 0.9}, ...],
     "traffic_element": [{"id": 7, "category": 1, "attribute": 2,
                          "points": [[left, top], [right, bottom]], "confidence": 0.8}, ...],
     "topology_lclc": [[0.1, 0.9], ...], "topology_lcte": [[0.7], ...]}

Lanes are in the ego frame in metres, boxes in pixels of the front image. Rows and columns of the
matrices are in the order of the lists. The truth has no confidences, and 0 or 1 in its matrices.
Further fields are ignored, as the official evaluation does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.traffic.openlane_frames import OpenLaneFrame
from bevstack.evaluation.traffic.openlane_score import OpenLaneScores
from bevstack.files import write_text_atomically
from bevstack.json_files import (
    expect_field,
    expect_integer,
    expect_list,
    expect_number,
    expect_numbers,
    expect_object,
    expect_text,
    read_json,
    shorten,
)
from bevstack.vocabulary import ROAD_SIGN, TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT

SCORES_NAME = "openlane_scores.json"

_MAX_BYTES = 1 << 28  # 5,000 frames of 50 lanes
_MAX_NUMBER = 1e9  # of metres or pixels; float32 holds the area of such a box
_LANES, _ELEMENTS = "lane_centerline", "traffic_element"
_LANE_EDGES, _ELEMENT_EDGES = "topology_lclc", "topology_lcte"
_NUMBERS = {int, float}


def read_openlane_frames(path: Path | str, *, predicted: bool) -> dict[str, OpenLaneFrame]:
    """Read the true or predicted frames of a file, in its order.

    Args:
        path: the file.
        predicted: True if lanes and elements have confidences, and edges values from 0 to 1.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON, or a value is missing or of another kind, size or range,
            or two predictions of a frame have one id. Names the frame, index and field.
    """
    subject = "results file" if predicted else "truth file"
    content = read_json(path, subject, max_bytes=_MAX_BYTES, allow_nan=True)  # NaN is refused below
    return parse_openlane_frames(content, str(path), predicted=predicted)


def parse_openlane_frames(content: Any, place: str, *, predicted: bool) -> dict[str, OpenLaneFrame]:
    """Return the frames of a JSON value; ``place`` names it in messages.

    Raises:
        ValueError: as ``read_openlane_frames``.
    """
    frames = {}
    for name, values in expect_object(place, content).items():
        where = f"frame {shorten(expect_text(f'name of a frame of {place}', name))} of {place}"
        frames[name] = _Frame(where, values, predicted=predicted).read()
    return frames


def write_openlane_scores(folder: Path, scores: OpenLaneScores) -> Path:
    """Write ``openlane_scores.json`` and return its path.

    Raises:
        OSError: the folder cannot be written.
    """
    path = folder / SCORES_NAME
    write_text_atomically(path, json.dumps(scores.to_dict(), indent=1) + "\n")
    return path


class _Frame:
    """The JSON value of one frame, checked while it is read."""

    def __init__(self, where: str, values: Any, *, predicted: bool) -> None:
        self._where = where
        self._values = expect_object(where, values)
        self._predicted = predicted
        self._places: dict[int, str] = {}  # of each id

    def read(self) -> OpenLaneFrame:
        """Return the frame as arrays."""
        lanes, elements = self._entries(_LANES), self._entries(_ELEMENTS)
        points = tuple(self._lane(*entry) for entry in lanes)
        boxes = [_matrix(f"points of {where}", _points(where, e), 2, 2) for where, e in elements]
        count, num_lanes = len(elements), len(lanes)
        return OpenLaneFrame(
            lanes_m=points,
            lane_confidence=self._confidences(lanes),
            boxes_px=np.array(boxes, np.float32).reshape(count, 4),
            category=self._codes(elements, "category", TRAFFIC_LIGHT, ROAD_SIGN),
            attribute=self._codes(elements, "attribute", 0, len(TRAFFIC_ELEMENT_ATTRIBUTES) - 1),
            confidence=self._confidences(elements),
            topology_ll=self._edges(_LANE_EDGES, num_lanes, num_lanes),
            topology_lt=self._edges(_ELEMENT_EDGES, num_lanes, count),
        )

    def _entries(self, field: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the objects of a list with their places; check their ids."""
        place = f"{field} of {self._where}"
        entries = []
        for index, value in enumerate(
            expect_list(place, expect_field(self._where, self._values, field))
        ):
            where = f"{field}[{index}] of {self._where}"
            entry = expect_object(where, value)
            identity = expect_integer(f"id of {where}", expect_field(where, entry, "id"))
            earlier = self._places.setdefault(identity, where)
            if self._predicted and earlier is not where:
                raise ValueError(
                    f"id of {where} must be unique among lanes and elements; got {identity}, that "
                    f"of {earlier.removesuffix(f' of {self._where}')}"
                )
            entries.append((where, entry))
        return entries

    def _lane(self, where: str, entry: dict[str, Any]) -> NDArray[np.float32]:
        points = expect_list(f"points of {where}", _points(where, entry))
        fewest = 1 if self._predicted else 2  # the official evaluation needs two of a true lane
        if len(points) < fewest:
            raise ValueError(
                f"points of {where} must be at least {fewest} points; got {len(points)}"
            )
        return _matrix(f"points of {where}", points, len(points), 3)

    def _confidences(self, entries: Sequence[tuple[str, dict[str, Any]]]) -> NDArray[np.float64]:
        if not self._predicted:
            return np.ones(len(entries))
        values = np.zeros(len(entries))
        for row, (where, entry) in enumerate(entries):
            place = f"confidence of {where}"
            values[row] = expect_number(place, expect_field(where, entry, "confidence"))
            if not 0 <= values[row] <= 1:
                raise ValueError(f"{place} must be from 0 to 1; got {values[row]:g}")
        return values

    def _codes(
        self, entries: Sequence[tuple[str, dict[str, Any]]], field: str, low: int, high: int
    ) -> NDArray[np.int64]:
        codes = [
            expect_integer(f"{field} of {where}", expect_field(where, e, field), low=low, high=high)
            for where, e in entries
        ]
        return np.array(codes, np.int64)

    def _edges(self, field: str, rows: int, columns: int) -> NDArray[np.float32]:
        """Return a matrix of edges with one row a lane."""
        place = f"{field} of {self._where}"
        value = expect_field(self._where, self._values, field)
        edges = _matrix(place, value, rows, columns)
        bad = (edges < 0) | (edges > 1) if self._predicted else (edges != 0) & (edges != 1)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            wanted = "from 0 to 1" if self._predicted else "0 or 1"
            raise ValueError(
                f"{field}[{row}][{column}] of {self._where} must be {wanted}; "
                f"got {edges[row, column]:g}"
            )
        return edges


def _points(where: str, entry: dict[str, Any]) -> Any:
    return expect_field(where, entry, "points")


def _matrix(where: str, value: Any, rows: int, columns: int) -> NDArray[np.float32]:
    """Return nested lists of numbers as an array of this size."""
    try:
        plain = _is_plain(value, rows, columns)
        matrix = np.array(value if plain else [], np.float64)
    except OverflowError:  # a whole number beyond the largest float
        plain = False
    if not plain or not np.isfinite(matrix).all():
        matrix = expect_numbers(where, value, (rows, columns))  # names the fault
    matrix = matrix.reshape(rows, columns)
    if (np.abs(matrix) > _MAX_NUMBER).any():
        row, column = np.argwhere(np.abs(matrix) > _MAX_NUMBER)[0]
        raise ValueError(
            f"{where}[{row}][{column}] must be at most {_MAX_NUMBER:g}; got {matrix[row, column]:g}"
        )
    return matrix.astype(np.float32)


def _is_plain(value: Any, rows: int, columns: int) -> bool:
    """Return True for a list of lists of numbers, which need no closer look before conversion."""
    return (
        type(value) is list
        and len(value) == rows
        and all(type(row) is list and len(row) == columns for row in value)
        and {type(number) for row in value for number in row} <= _NUMBERS
    )
