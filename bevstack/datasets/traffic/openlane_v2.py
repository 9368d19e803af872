"""Reader of OpenLane-V2's frames (Wang et al., arXiv 2304.10440): elements, lanes and topology.

A frame is `<split>/<segment>/info/<timestamp>.json`; `<timestamp>-ls.json` is the same frame in the
form of the Map Element Bucket. Boxes lie in the front image, in pixels. Lanes are 3D points in the
ego frame. Rows and columns of the topology follow the order of the lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.datasets.traffic.labels import Counts
from bevstack.datasets.traffic.s2tld import files_below
from bevstack.json_files import (
    expect_field,
    expect_flag,
    expect_integer,
    expect_list,
    expect_numbers,
    expect_object,
    expect_text,
    read_json,
)
from bevstack.tables.picture_elements import parse_elements
from bevstack.types.labelled_images import LabelledImage, LabelledImages
from bevstack.types.traffic import HOUSING

FRONT_CAMERAS = ("ring_front_center", "CAM_FRONT")  # of subset A (Argoverse 2) and B (nuScenes)
# Sizes of the front images of the two subsets, (H, W).
FRONT_SIZES = {"ring_front_center": (2048, 1550), "CAM_FRONT": (900, 1600)}
LINE_TYPES = ("none", "solid", "dash")
MAX_BYTES = 1 << 26
_SOURCE = "openlane_v2"
_BUCKET = "-ls"
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LaneLine:
    """A border of a lane segment."""

    points_m: Floats  # (K, 3) in the ego frame
    kind: str  # of LINE_TYPES


@dataclass(frozen=True, kw_only=True)
class OpenLane:
    """A centre line or lane segment."""

    token: str
    points_m: Floats  # (K, 3) centre line in driving direction, in the ego frame
    left: LaneLine | None = None  # None: the frame has centre lines alone
    right: LaneLine | None = None
    in_intersection: bool | None = None


@dataclass(frozen=True, kw_only=True)
class OpenLaneFrame:
    """A frame with N lanes and E elements; ``image.elements[k].lane_tokens`` hold its topology."""

    segment: str
    timestamp: int  # as in the file
    image: LabelledImage  # the front image
    lanes: tuple[OpenLane, ...]
    lane_from_lane: Floats  # (N, N) 0..1, row -> successor
    lane_to_element: Floats  # (N, E) 0..1, the element governs the lane


def read_openlane_v2(path: Path | str) -> LabelledImages:
    """Read the elements of one frame, or of all frames below a folder.

    A frame that has both files is read once, from the one without `-ls`.

    Raises:
        FileNotFoundError: there is no such file, or the folder has none.
        ValueError: a file is no such document; names the place.
    """
    path = Path(path)
    files = files_below(path, ".json")
    if path.is_dir():
        files = [file for file in files if file.parent.name == "info"]
        names = {file.with_suffix("") for file in files}
        files = [
            file
            for file in files
            if not (
                file.stem.endswith(_BUCKET)
                and file.with_name(file.stem.removesuffix(_BUCKET)) in names
            )
        ]
        if not files:
            raise FileNotFoundError(f"folder must hold files info/*.json; got none in {path}")
    images, dropped, mended = [], Counter[str](), Counter[str]()
    for file in files:
        frame, counts = _read(file)
        images.append(frame.image)
        dropped.update(counts.dropped)
        mended.update(counts.mended)
    return LabelledImages(
        source=_SOURCE,
        images=tuple(images),
        dropped=dict(dropped),
        mended=dict(mended),
        licence="CC BY-NC-SA 4.0",
    )


def read_openlane_frame(path: Path | str) -> OpenLaneFrame:
    """Read one frame with its lanes and topology.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such document; names the place.
    """
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[OpenLaneFrame, Counts]:
    where = path.name
    values = expect_object(
        where, read_json(path, f"OpenLane-V2 frame {where}", max_bytes=MAX_BYTES)
    )
    sensors = expect_object(f"sensor of {where}", expect_field(where, values, "sensor"))
    cameras = [name for name in FRONT_CAMERAS if name in sensors]
    if len(cameras) != 1:
        raise ValueError(
            f"sensor of {where} must hold one of {', '.join(FRONT_CAMERAS)}; got {len(cameras)}"
        )
    camera = expect_object(f"{cameras[0]} of {where}", sensors[cameras[0]])
    image = expect_text(
        f"image_path of {where}", expect_field(f"{cameras[0]} of {where}", camera, "image_path")
    )
    place = f"annotation of {where}"
    annotation = expect_object(place, expect_field(where, values, "annotation"))
    lanes, kind = _lanes(place, annotation)
    rows = expect_list(
        f"traffic_element of {where}", expect_field(place, annotation, "traffic_element")
    )
    elements, scores = parse_elements(
        where, rows, image=image, box_convention=HOUSING, source=_SOURCE
    )
    lane_from_lane = _matrix(place, annotation, f"topology_{kind}{kind}", (len(lanes), len(lanes)))
    to_element = _matrix(place, annotation, f"topology_{kind}te", (len(lanes), len(elements)))
    counts = Counts()
    size = FRONT_SIZES[cameras[0]]
    kept = []
    for index, element in enumerate(elements):
        box = counts.box(f"element {index} of {where}", element.box_px, size)
        if box is None:
            continue
        tokens = tuple(
            lane.token for lane, edge in zip(lanes, to_element[:, index], strict=True) if edge > 0.5
        )
        element = replace(
            element,
            box_px=box,
            instance_token=element.token,
            camera=cameras[0],
            lane_token=tokens[0] if tokens else "",
            lane_tokens=tokens,
        )
        kept.append((index, element))
    columns = [index for index, _ in kept]
    picked = None if scores is None else tuple(scores[index] for index in columns)
    frame = OpenLaneFrame(
        segment=expect_text(f"segment_id of {where}", expect_field(where, values, "segment_id")),
        timestamp=_timestamp(where, values),
        image=LabelledImage(
            path=image, size=size, elements=tuple(element for _, element in kept), scores=picked
        ),
        lanes=lanes,
        lane_from_lane=lane_from_lane,
        lane_to_element=to_element[:, columns],
    )
    return frame, counts


def _timestamp(where: str, values: dict[str, Any]) -> int:
    """Return the time of a frame, which the files write as a number or as a text of digits."""
    value = expect_field(where, values, "timestamp")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        value = int(value)
    return expect_integer(f"timestamp of {where}", value, low=0)


def _lanes(where: str, annotation: dict[str, Any]) -> tuple[tuple[OpenLane, ...], str]:
    """Return the lanes, and "lc" for centre lines or "ls" for lane segments."""
    is_bucket = "lane_segment" in annotation
    name = "lane_segment" if is_bucket else "lane_centerline"
    rows = expect_list(f"{name} of {where}", expect_field(where, annotation, name))
    lanes = []
    tokens: set[str] = set()
    for index, row in enumerate(rows):
        place = f"{name} {index} of {where}"
        values = expect_object(place, row)
        token = _lane_token(place, values)
        if token in tokens:
            raise ValueError(f"id of {place} must occur once; got {token} twice")
        tokens.add(token)
        points = _points(place, values, "centerline" if is_bucket else "points")
        if not is_bucket:
            lanes.append(OpenLane(token=token, points_m=points))
            continue
        flag = expect_field(place, values, "is_intersection_or_connector")
        lanes.append(
            OpenLane(
                token=token,
                points_m=points,
                left=_line(place, values, "left"),
                right=_line(place, values, "right"),
                in_intersection=expect_flag(f"is_intersection_or_connector of {place}", flag),
            )
        )
    return tuple(lanes), "ls" if is_bucket else "lc"


def _lane_token(where: str, values: dict[str, Any]) -> str:
    value = expect_field(where, values, "id")
    if isinstance(value, str):
        return expect_text(f"id of {where}", value)
    return str(expect_integer(f"id of {where}", value))


def _line(where: str, values: dict[str, Any], side: str) -> LaneLine:
    name = f"{side}_laneline"
    kind = expect_integer(
        f"{name}_type of {where}",
        expect_field(where, values, f"{name}_type"),
        low=0,
        high=len(LINE_TYPES) - 1,
    )
    return LaneLine(points_m=_points(where, values, name), kind=LINE_TYPES[kind])


def _points(where: str, values: dict[str, Any], name: str) -> Floats:
    rows = expect_list(f"{name} of {where}", expect_field(where, values, name))
    return expect_numbers(f"{name} of {where}", rows, (len(rows), 3))


def _matrix(where: str, annotation: dict[str, Any], name: str, shape: tuple[int, int]) -> Floats:
    """Return a topology; an empty list stands for a matrix without entries."""
    value: Sequence[Any] = expect_list(f"{name} of {where}", expect_field(where, annotation, name))
    if 0 in shape and not any(value):
        return np.zeros(shape)
    matrix = expect_numbers(f"{name} of {where}", value, shape)
    if not ((matrix >= 0) & (matrix <= 1)).all():
        raise ValueError(
            f"{name} of {where} must be from 0 to 1; got {matrix.min()}..{matrix.max()}"
        )
    return matrix
