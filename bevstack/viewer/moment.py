"""Moments: all that a viewer shows of one frame, as plain arrays in the ego frame.

A moment holds results and no model, data set or window. Every viewer, whether browser, window or
picture, shows the same moment. Letters: D predicted boxes, N true boxes, L matching distances.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from bevstack.render import Surroundings, TrafficLayer
from bevstack.types.boxes import CORNER_SIGNS
from bevstack.types.sectors import SectorTrust

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

NO_MATCH = -1
NO_IDENTITY = -1


class ErrorKind(IntEnum):
    """Kind of a box in the eyes of the metric."""

    UNCOUNTED = 0  # the metric does not count it, or there is no truth
    TRUE_POSITIVE = 1  # a predicted box with a true box
    FALSE_POSITIVE = 2  # a predicted box without one
    FOUND = 3  # a true box with a predicted box
    MISSED = 4  # a true box without one


@dataclass(frozen=True, kw_only=True)
class BoxArrays:
    """Upright boxes in the ego frame, in the order of their source."""

    center_m: Floats  # (D, 3) centre of gravity
    size_m: Floats  # (D, 3) length, width, height
    yaw_rad: Floats  # (D,) counter-clockwise about z, 0 along x
    velocity_mps: Floats  # (D, 2) along (x, y), NaN if unknown
    label: Indices  # (D,) index into the moment's class names
    identity: Indices  # (D,) number of the track or object, or NO_IDENTITY
    counted: Flags  # (D,) the metric counts the box

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, rows: Indices | Flags) -> BoxArrays:
        """Return the boxes of some rows."""
        return BoxArrays(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def corners(self) -> Floats:  # (D, 8, 3)
        """Return the corners in the order of `bevstack.types.boxes.CORNER_SIGNS`."""
        offset = 0.5 * self.size_m[:, None] * np.array(CORNER_SIGNS, np.float64)
        cos, sin = np.cos(self.yaw_rad)[:, None], np.sin(self.yaw_rad)[:, None]
        x = cos * offset[..., 0] - sin * offset[..., 1]
        y = sin * offset[..., 0] + cos * offset[..., 1]
        corners: Floats = np.stack((x, y, offset[..., 2]), -1) + self.center_m[:, None]
        return corners

    @property
    def speed_mps(self) -> Floats:  # (D,) NaN if unknown
        """Return the speed of each box."""
        speed: Floats = np.hypot(self.velocity_mps[:, 0], self.velocity_mps[:, 1])
        return speed

    @property
    def distance_m(self) -> Floats:  # (D,)
        """Return the distance on the ground from the vehicle to each centre."""
        distance: Floats = np.hypot(self.center_m[:, 0], self.center_m[:, 1])
        return distance


@dataclass(frozen=True, kw_only=True)
class BoxPairs:
    """Matches between predicted and true boxes of one moment, at several distances."""

    distances_m: tuple[float, ...]  # L
    truth: Indices  # (L, D) true box of each predicted box, or NO_MATCH
    prediction: Indices  # (L, N) predicted box of each true box, or NO_MATCH
    # (L, 5, D) errors of the matches in the order of the metric: metres, 1 - IoU, radians, metres
    # per second, and 0 or 1 for the attribute; NaN without a match or if it is unknown
    errors: Floats

    def at(self, distance_m: float) -> int:
        """Return the index of a distance.

        Raises:
            ValueError: there is no match at this distance.
        """
        if distance_m not in self.distances_m:
            listed = ", ".join(f"{distance:g}" for distance in self.distances_m)
            raise ValueError(f"distance must be one of {listed} m; got {distance_m:g}")
        return self.distances_m.index(distance_m)


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Boxes of one model."""

    name: str
    boxes: BoxArrays
    score: Floats  # (D,) 0..1
    pairs: BoxPairs | None = None  # None: no truth to compare with


@dataclass(frozen=True, kw_only=True)
class CameraView:
    """Picture and calibration of one camera; the pinhole model holds for the picture as encoded."""

    name: str  # channel, or "camera 0"
    size_px: tuple[int, int]  # width and height of the picture
    intrinsics: Floats  # (3, 3) pixels
    ego_from_cam: Floats  # (4, 4) from the camera at its own time to the moment's ego frame
    encoded: bytes | None  # the bytes of the file, JPEG or PNG; None without a picture
    media_type: str = "image/jpeg"
    missing: str = ""  # name of the file, or the reason, if there is no picture

    def project(
        self,
        points_m: Floats,  # (..., 3) in the ego frame
    ) -> tuple[Floats, Floats]:  # (..., 2) pixels, (...,) depth in metres
        """Return the pixels and depths of points; pixels behind the camera are NaN."""
        rotation, place = self.ego_from_cam[:3, :3], self.ego_from_cam[:3, 3]
        in_camera = (points_m - place) @ rotation  # the inverse of a rotation is its transpose
        depth = in_camera[..., 2]
        safe = np.where(depth > 0, depth, np.nan)[..., None]
        return ((in_camera @ self.intrinsics.T) / safe)[..., :2], depth


@dataclass(frozen=True, kw_only=True)
class Trail:
    """Earlier places of one track or object, oldest first, the present one last."""

    identity: int
    label: int
    points_m: Floats  # (P, 3) in the present ego frame
    times_s: Floats  # (P,) relative to the moment, 0 last
    source: str = ""  # name of the model; "": true


@dataclass(frozen=True, kw_only=True)
class Moment:
    """All that is shown of one frame; places are in the ego frame at the frame's time."""

    scene: str
    index: int  # in the scene
    timestamp_us: int
    class_names: tuple[str, ...]
    sample_token: str = ""
    world_from_ego: Floats | None = None  # (4, 4); None: no pose is known
    predicted: tuple[Predicted, ...] = ()  # none, one or two models
    true: BoxArrays | None = None
    cameras: tuple[CameraView, ...] = ()
    lidar_m: Floats | None = None  # (P, 3)
    surroundings: Surroundings = field(default_factory=Surroundings)
    traffic: TrafficLayer | None = None
    sectors: SectorTrust | None = None
    trails: tuple[Trail, ...] = ()
    notes: tuple[str, ...] = ()  # of a live stream: states of cameras and of the node

    def shown(self, model: int, min_score: float, labels: frozenset[int]) -> Flags:  # (D,)
        """Return True for each predicted box with enough score and one of the labels."""
        predicted = self.predicted[model]
        return (predicted.score >= min_score) & is_among(predicted.boxes.label, labels)

    def shown_true(self, labels: frozenset[int]) -> Flags:  # (N,)
        """Return True for each true box with one of the labels."""
        assert self.true is not None  # the caller shows true boxes
        return is_among(self.true.label, labels)

    def predicted_kinds(self, model: int, distance_m: float) -> Indices:  # (D,)
        """Return the ``ErrorKind`` of each predicted box at a matching distance.

        It does not depend on a lowest score: the metric matches the best box first.
        """
        predicted = self.predicted[model]
        kinds = np.full(len(predicted.boxes), ErrorKind.UNCOUNTED, np.int64)
        if predicted.pairs is None:
            return kinds
        matched = predicted.pairs.truth[predicted.pairs.at(distance_m)] != NO_MATCH
        counted = predicted.boxes.counted
        kinds[counted & matched] = ErrorKind.TRUE_POSITIVE
        kinds[counted & ~matched] = ErrorKind.FALSE_POSITIVE
        return kinds

    def true_kinds(self, model: int, distance_m: float, min_score: float) -> Indices:  # (N,)
        """Return the ``ErrorKind`` of each true box, given the lowest score that is shown."""
        assert self.true is not None  # the caller shows true boxes
        kinds = np.full(len(self.true), ErrorKind.UNCOUNTED, np.int64)
        if not self.predicted or self.predicted[model].pairs is None:
            return kinds
        pairs = self.predicted[model].pairs
        assert pairs is not None
        prediction = pairs.prediction[pairs.at(distance_m)]
        found = prediction != NO_MATCH
        found[found] = self.predicted[model].score[prediction[found]] >= min_score
        kinds[self.true.counted & found] = ErrorKind.FOUND
        kinds[self.true.counted & ~found] = ErrorKind.MISSED
        return kinds


def is_among(label: Indices, labels: frozenset[int]) -> Flags:
    """Return True for each label that is among the chosen ones."""
    return np.isin(label, np.array(sorted(labels), np.int64))
