"""Messages of a node's results as boxes, tracks, cues, trust and notes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bevstack.evaluation.traffic.cue_entries import ego_cue_from_json, traffic_cue_from_json
from bevstack.export.messages.status import OK
from bevstack.json_files import expect_field, expect_integer, expect_list, expect_object, parse_json
from bevstack.render import TrafficLayer, cue_marks
from bevstack.runtime.ros.decoding import stamp_us
from bevstack.types.sectors import SectorTrust
from bevstack.viewer.moment import NO_IDENTITY, BoxArrays, Floats
from bevstack.vocabulary import DETECTION_CLASSES

_TEXTS = "texts"  # namespace of the markers that name class and track


class TrackNumbers:
    """Numbers of tracks, whose identifiers are 128 bits long, in the order of their appearance."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def number(self, identifier: bytes) -> int:
        """Return the number of an identifier."""
        return self._numbers.setdefault(identifier, len(self._numbers))


def result_time_us(message: Any) -> int:
    """Return the stamp of a result: that of its header, of its first marker, or in its text.

    Raises:
        ValueError: it has none, or an impossible one.
    """
    if hasattr(message, "header"):
        return stamp_us(message.header.stamp)
    if hasattr(message, "markers"):
        if not message.markers:
            raise ValueError("markers must have a first one, which deletes all; got none")
        return stamp_us(message.markers[0].header.stamp)
    entry = _entry(message)
    return expect_integer("timestamp_us", expect_field("text", entry, "timestamp_us"), low=0)


def detected_boxes(detections: Any, objects: Any | None) -> tuple[BoxArrays, Floats]:
    """Return the boxes of a Detection3DArray with their scores.

    Args:
        detections: the message; the ego frame is its ``base_frame``.
        objects: DetectedObjects of the same boxes in the same order, which have velocities; None:
            they are unknown.

    Raises:
        ValueError: a class is unknown, or the messages differ in number.
    """
    found = detections.detections
    if objects is not None and len(objects.objects) != len(found):
        raise ValueError(
            f"objects must be those of detections, {len(found)}; got {len(objects.objects)}"
        )
    best = [detection.results[0].hypothesis for detection in found]
    boxes = _boxes(
        [detection.bbox.center for detection in found],
        [detection.bbox.size for detection in found],
        [hypothesis.class_id for hypothesis in best],
    )
    if objects is not None:
        boxes.velocity_mps[:] = _velocities(objects.objects, boxes.yaw_rad, only_known=True)
    return boxes, np.array([hypothesis.score for hypothesis in best], np.float64)


def tracked_boxes(tracks: Any, markers: Any, numbers: TrackNumbers) -> tuple[BoxArrays, Floats]:
    """Return the boxes of TrackedObjects with their scores.

    Args:
        tracks: the message. Its classes are coarser than those of the detector.
        markers: MarkerArray of the same tracks in the same order, whose texts name the classes.
        numbers: of the tracks.

    Raises:
        ValueError: a class is unknown, or the messages differ in number.
    """
    found = tracks.objects
    texts = {marker.id: marker.text for marker in markers.markers if marker.ns == _TEXTS}
    if sorted(texts) != list(range(len(found))):
        raise ValueError(f"markers must name {len(found)} tracks; got {len(texts)} texts")
    boxes = _boxes(
        [track.kinematics.pose_with_covariance.pose for track in found],
        [track.shape.dimensions for track in found],
        [texts[row].partition(" ")[0] for row in range(len(found))],
    )
    boxes.velocity_mps[:] = _velocities(found, boxes.yaw_rad, only_known=False)
    boxes.identity[:] = [numbers.number(bytes(track.object_id.uuid)) for track in found]
    return boxes, np.array([track.existence_probability for track in found], np.float64)


def cues_from(message: Any) -> TrafficLayer:
    """Return the lights and signs of a text of cues.

    Raises:
        ValueError: the text has another form.
    """
    entry = _entry(message)
    cues, ego_cues = (
        expect_list(name, expect_field("traffic_cues", entry, name))
        for name in ("cues", "ego_cues")
    )
    return TrafficLayer(
        predicted=cue_marks([traffic_cue_from_json("a cue", cue) for cue in cues]),
        ego_cues=tuple(ego_cue_from_json("an ego cue", cue) for cue in ego_cues),
    )


def sectors_from(message: Any) -> SectorTrust:
    """Return the trust of a text of sectors.

    Raises:
        ValueError: the text has another form.
    """
    return SectorTrust.from_entry("sectors", _entry(message))


def notes_from(message: Any) -> tuple[str, ...]:
    """Return the states of a DiagnosticArray that are not in order, the most severe first."""
    faults = [status for status in message.status if _level(status) != OK]
    faults.sort(key=_level, reverse=True)
    return tuple(f"{status.name.rpartition(': ')[2]}: {status.message}" for status in faults)


def _level(status: Any) -> int:
    level = status.level
    return level[0] if isinstance(level, bytes) else int(level)


def _entry(message: Any) -> dict[str, Any]:
    return expect_object("text", parse_json(message.data.encode(), "text of the node"))


def _boxes(poses: list[Any], sizes: list[Any], names: list[str]) -> BoxArrays:
    unknown = sorted(set(names) - set(DETECTION_CLASSES))
    if unknown:
        raise ValueError(f"classes must be among {', '.join(DETECTION_CLASSES)}; got {unknown[0]}")
    count = len(poses)
    places = [(p.position.x, p.position.y, p.position.z) for p in poses]
    return BoxArrays(
        center_m=np.array(places, np.float64).reshape(-1, 3),
        size_m=np.array([(s.x, s.y, s.z) for s in sizes], np.float64).reshape(-1, 3),
        yaw_rad=np.array([_yaw(pose.orientation) for pose in poses], np.float64),
        velocity_mps=np.full((count, 2), np.nan),
        label=np.array([DETECTION_CLASSES.index(name) for name in names], np.int64),
        identity=np.full(count, NO_IDENTITY, np.int64),
        counted=np.zeros(count, np.bool_),
    )


def _yaw(q: Any) -> float:
    return math.atan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y * q.y + q.z * q.z))


def _velocities(objects: list[Any], yaw_rad: Floats, *, only_known: bool) -> Floats:  # (D, 2)
    """Return velocities in the ego frame; twists stand in the objects' own axes."""
    twists = [o.kinematics.twist_with_covariance.twist.linear for o in objects]
    own = np.array([(twist.x, twist.y) for twist in twists], np.float64).reshape(-1, 2)
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    turned: Floats = np.stack(
        (cos * own[:, 0] - sin * own[:, 1], sin * own[:, 0] + cos * own[:, 1]), -1
    )
    if only_known:
        turned[[not o.kinematics.has_twist for o in objects]] = np.nan
    return turned
