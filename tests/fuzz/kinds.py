"""Kinds of the documents that readers may accept, written from the formats' descriptions."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np

from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES
from tests.fuzz.schema import (
    Kind,
    anything,
    flag,
    integer,
    listing,
    mapping,
    members,
    null,
    number,
    one_of,
    record,
    string,
    text,
)
from tests.sources import ROOT

_TIME = one_of(null, integer(0))
_POSE = one_of(
    listing(listing(number(), 4), 4),
    record({"rotation_wxyz": listing(number(), 4), "translation_m": listing(number(), 3)}),
)
_LENS = record(
    {
        "model": members("plumb_bob", "rational_polynomial", "equidistant"),
        "coefficients": listing(number(), at_most=14),
    }
)
_CAMERA = record(
    {
        "name": text,
        "width": integer(1, 1 << 16),
        "height": integer(1, 1 << 16),
        "intrinsics": listing(listing(number(), 3), 3),
        "ego_from_cam": _POSE,
    },
    {
        "image": one_of(null, text),
        "distortion": one_of(null, _LENS),
        "lost": flag,
        "timestamp_us": _TIME,
    },
)
RIG = record(
    {"format": members("bevstack-rig-1"), "cameras": listing(_CAMERA, at_most=64)},
    {"timestamp_us": _TIME, "world_from_ego": one_of(null, _POSE)},
)

_VELOCITY = one_of(listing(number(), 2), listing(null, 2))
_DETECTION = record(
    {
        "class": text,
        "score": number(0, 1),
        "center_m": listing(number(), 3),
        "size_m": listing(number(above=0), 3),
        "yaw_rad": number(),
        "velocity_mps": _VELOCITY,
    },
    open=True,
)
DETECTIONS = record(
    {"format": members("bevstack-detections-1"), "detections": listing(_DETECTION)},
    {"frame": members("ego"), "timestamp_us": _TIME},
    open=True,
)


_FRAME_DETECTIONS = record(
    {"timestamp_us": integer(0), "detections": listing(_DETECTION)},
    {"world_from_ego": one_of(null, _POSE), "lost": listing(text)},
    open=True,
)
FRAME_DETECTIONS = record(
    {
        "format": members("bevstack-frames-detections-1"),
        "frame": members("ego"),
        "classes": listing(text),
        "frames": listing(_FRAME_DETECTIONS),
    },
    open=True,
)

_IMAGE = record({"image": text}, {"timestamp_us": _TIME, "world_from_ego": one_of(null, _POSE)})
_CAMERAS = record({}, {name: one_of(null, text, _IMAGE) for name in ("front", "rear")})
_LISTED_FRAME = record(
    {"timestamp_us": integer(0)},
    {"world_from_ego": one_of(null, _POSE), "cameras": one_of(null, _CAMERAS)},
)
_VIDEO = record({"file": text, "start_us": integer(0), "fps": number(0, 1000, above=0)})
FRAME_TABLE = record(
    {"format": members("bevstack-frames-1")},
    {
        "frames": one_of(null, listing(_LISTED_FRAME)),
        "videos": record({}, {"front": _VIDEO, "rear": _VIDEO}),
    },
)


def _velocity(place: str, value: Any) -> str | None:
    """Accept finite numbers or NaN."""
    finite = [0.0 if isinstance(part, float) and part != part else part for part in value]
    return listing(number(), 2)(place, finite)


def _whole(place: str, value: Any) -> str | None:
    """Accept whole numbers, also those written as 5.0."""
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return integer(-(2**63), 2**64 - 1)(place, whole)


_BOX = record(
    {
        "sample_token": string,
        "translation": listing(number(), 3),
        "size": listing(number(above=0), 3),
        "rotation": listing(number(), 4),
        "velocity": _velocity,
        "detection_name": members(*DETECTION_CLASSES),
        "detection_score": number(0),
        "attribute_name": members("", *ATTRIBUTES),
    },
    {"num_pts": _whole},
    open=True,
)
RESULTS = record(
    {"meta": one_of(null, mapping(anything)), "results": mapping(listing(_BOX, at_most=500))},
    open=True,
)


def identity(place: str, value: Any) -> str | None:
    """Accept any text but the empty one; it is compared, never read."""
    return None if isinstance(value, str) and value else f"{place} is {value!r:.60}, no text"


_TRACKED_CLASSES = ("bicycle", "bus", "car", "motorcycle", "pedestrian", "trailer", "truck")
_TRACKED_BOX = record(
    {
        "sample_token": string,
        "translation": listing(number(), 3),
        "size": listing(number(above=0), 3),
        "rotation": listing(number(), 4),
        "velocity": _velocity,
        "tracking_id": identity,
        "tracking_name": members(*_TRACKED_CLASSES),
    },
    {"tracking_score": number(), "num_pts": _whole},
    open=True,
)
TRACKS = record(
    {
        "meta": one_of(null, mapping(anything)),
        "results": mapping(listing(_TRACKED_BOX, at_most=500)),
    },
    open=True,
)


def devkit_accepts(place: str, value: Any) -> str | None:
    """Accept what nuscenes-devkit loads; without the devkit, anything."""
    try:
        from nuscenes.eval.detection.data_classes import DetectionBox
    except ModuleNotFoundError:
        return None
    for token, boxes in value["results"].items():
        for index, box in enumerate(boxes):
            values = {k: box.get(k) for k in ("translation", "size", "rotation", "detection_score")}
            if any(
                np.isnan(np.array(v, dtype=float)).any() for v in values.values() if v is not None
            ):
                continue  # refused later, by ``check_devkit_rules``
            try:
                DetectionBox.deserialize(box)
            except (AssertionError, TypeError, ValueError, KeyError) as error:
                return f"{place} box {index} of {token!r:.40}: {error!r:.100}"
    return None


SPLITS = mapping(listing(string))
_ROW = record(
    {
        **dict.fromkeys(
            ("token", "instance_token", "sample_token", "sample_data_token", "camera"), string
        ),
        "category": integer(1, 2),
        "attribute": integer(0, 12),
        "points": listing(listing(number(), 2), 2),
        "translation": listing(number(), 3),
        "size": listing(number(), 3),
        "rotation": listing(number(), 4),
        "visibility": number(),
        "lane_token": string,
    },
    open=True,
)
_LANE = record(
    {
        "token": string,
        "scene_token": string,
        "centerline": listing(one_of(*(listing(number(), n) for n in range(2, 12)))),
    },
    open=True,
)
_STATE = record(
    {
        "instance_token": string,
        "scene_token": string,
        "timestamp_us": listing(integer(0)),
        "lamps": listing(
            listing(record(dict.fromkeys(("color", "shape", "status"), string), open=True))
        ),
        "flash_hz": number(0.0),
        "flash_offset_us": integer(0),
    },
    open=True,
)
_EGO_LANE = record(
    {
        "sample_token": string,
        "lane_token": string,
        "manoeuvre": members("straight", "left", "right", "u_turn"),
        "stop_line_m": one_of(null, number()),
    },
    open=True,
)
RICH_TRAFFIC = record(
    {
        "traffic_element": listing(_ROW),
        "lane": listing(_LANE),
        "traffic_state": listing(_STATE),
        "ego_lane": listing(_EGO_LANE),
    },
    open=True,
)
TRAFFIC_ELEMENTS = record({"traffic_element": listing(_ROW), "lane": listing(_LANE)}, open=True)


def openlane_frames(*, predicted: bool) -> Kind:
    """Return the kind of OpenLane-V2's frames, true or predicted."""
    confidence = {"confidence": number(0, 1)} if predicted else {}
    lane = record(
        {"id": integer(), "points": listing(listing(number(), 3)), **confidence}, open=True
    )
    element = record(
        {
            "id": integer(),
            "category": integer(1, 2),
            "attribute": integer(0, 12),
            "points": listing(listing(number(), 2), 2),
            **confidence,
        },
        open=True,
    )
    edges = listing(listing(number(0, 1)))
    frame = record(
        {
            "lane_centerline": listing(lane),
            "traffic_element": listing(element),
            "topology_lclc": edges,
            "topology_lcte": edges,
        },
        open=True,
    )
    return mapping(frame)


_TRAFFIC_SCHEMA = ROOT / "docs" / "traffic_frames.schema.json"


def traffic_frames(place: str, value: Any) -> str | None:
    """Accept what the published JSON schema accepts; 5.0 is no whole number here."""
    validator = jsonschema.Draft202012Validator(
        json.loads(_TRAFFIC_SCHEMA.read_text(encoding="utf-8"))
    )
    fault = next(validator.iter_errors(value), None)
    return fault and f"{place}: {fault.message:.200}"


_LINE = record({"step": integer()}, open=True)
_LINES = listing(_LINE)


def log(place: str, value: Any) -> str | None:
    """Accept lines of numbers or null."""
    lines = value if isinstance(value, list) else [value]
    numbers = listing(mapping(one_of(null, number())))
    return _LINES(place, lines) or numbers(place, lines)


def _manifest_entry(place: str, value: Any) -> str | None:
    """Accept [SHA-256, size]."""
    fault = listing(anything, 2)(place, value)
    return fault or text(place, value[0]) or integer(0)(place, value[1])


MANIFEST: Kind = mapping(_manifest_entry)


def difference(place: str, given: Any, taken: Any) -> str | None:
    """Return where a given document is not contained in the one that was taken, value for value.

    A whole number may be taken as the float of the same value, and null as an absent section.
    """
    if isinstance(given, dict) and isinstance(taken, dict):
        faults = (
            difference(f"{place}.{key}", value, taken[key]) if key in taken else f"{place}.{key}"
            for key, value in given.items()
        )
        return next(filter(None, faults), None)
    if isinstance(given, list) and isinstance(taken, list) and len(given) == len(taken):
        pairs = enumerate(zip(given, taken, strict=True))
        return next(filter(None, (difference(f"{place}[{i}]", *pair) for i, pair in pairs)), None)
    if isinstance(taken, float) and isinstance(given, int) and not isinstance(given, bool):
        given = float(given)
    same = given == taken and isinstance(given, bool) == isinstance(taken, bool)
    return None if same else f"{place} is {given!r:.60} and was taken as {taken!r:.60}"
