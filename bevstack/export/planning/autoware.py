"""Autoware's perception messages (autoware_perception_msgs), and a bag of a drive.

Objects stand in ``base_link``, which is the project's ego frame. A position is the box's centre,
above ground. A twist stands in the object's own axes: x along its heading, y to its left. Variances
that are unknown are 0, as in ROS' own messages. Covariances of predicted paths, signs, cues and
trust have no message: they are JSON texts on topics of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from bevstack.export.messages.bag import Publication, write_bag
from bevstack.export.messages.parts import (
    make_header,
    make_pose_with_covariance,
    make_poses,
    make_text,
    make_time,
    make_transform,
    make_twist_with_covariance,
    make_vector,
)
from bevstack.export.messages.store import MessageStore
from bevstack.export.planning.autoware_lights import MAP_IDS, make_light_groups
from bevstack.export.planning.extension import extension_text
from bevstack.export.planning.scene import PlanningFrame, check_one_drive

UNKNOWN, CAR, TRUCK, BUS, TRAILER, MOTORCYCLE, BICYCLE, PEDESTRIAN, HAZARD = (*range(8), 9)
LABELS = MappingProxyType(
    {
        "car": CAR,
        "truck": TRUCK,
        "bus": BUS,
        "trailer": TRAILER,
        "construction_vehicle": TRUCK,
        "motorcycle": MOTORCYCLE,
        "bicycle": BICYCLE,
        "pedestrian": PEDESTRIAN,
        "traffic_cone": UNKNOWN,
        "barrier": UNKNOWN,
    }
)
OBSTACLES = ("traffic_cone", "barrier")
SIGN_UNKNOWN, AVAILABLE = 1, 2  # of an orientation
BOUNDING_BOX = 0
STANDING_MPS = 0.2  # slower objects count as stationary
BASE_LINK, MAP = "base_link", "map"
NAMESPACE = "/bevstack"


@dataclass(frozen=True, kw_only=True)
class AutowareOptions:
    """Choices of an export to Autoware.

    Raises:
        ValueError: ``light_ids`` is unknown.
    """

    light_ids: str = "map"  # of MAP_IDS
    hazards: bool = False  # cones, barriers and standing construction vehicles are HAZARD

    def __post_init__(self) -> None:
        if self.light_ids not in MAP_IDS:
            raise ValueError(
                f"light_ids must be one of {', '.join(MAP_IDS)}; got {self.light_ids!r}"
            )


def write_autoware(
    path: Path,
    frames: Sequence[PlanningFrame],
    store: MessageStore,
    options: AutowareOptions | None = None,
) -> int:
    """Write the frames of one drive as a bag of ROS 2, and return the number of messages.

    Raises:
        ModuleNotFoundError: rosbags or mcap is not installed (the extra ``ros``).
        OSError: the file cannot be written.
        ValueError: the frames are not of one drive in order of time, ``store`` is of ROS 1 or too
            old for ``options``, or the path does not end in ".mcap".
    """
    check_one_drive(frames)
    return write_bag(path, (p for f in frames for p in publications(f, store, options)), store)


def publications(
    frame: PlanningFrame, store: MessageStore, options: AutowareOptions | None = None
) -> Iterator[Publication]:
    """Yield the messages of one frame, with their topics.

    /tf holds base_link in map. Detections are on ``objects``; tracks on ``tracks``, and with their
    paths on ``predicted``. Lights are published if at least one has an id. The remaining topics are
    JSON texts: ``traffic_cues``, ``sectors`` and ``extension``.

    Raises:
        ValueError: ``store`` is of ROS 1, or its labels are too old for ``hazards``.
    """
    options = options or AutowareOptions()
    check_store(store, options)
    time_us = frame.timestamp_us

    def publish(topic: str, message: Any) -> Publication:
        name = topic if topic.startswith("/") else f"{NAMESPACE}/{topic}"
        return Publication(name, time_us, message)

    yield publish("/tf", make_transform(store, time_us, frame.world_from_ego, (MAP, BASE_LINK)))
    if frame.objects.identity is None:
        yield publish("objects", make_detected_objects(frame, store, options))
    else:
        yield publish("tracks", make_tracked_objects(frame, store, options))
        if frame.paths is not None:
            yield publish("predicted", make_predicted_objects(frame, store, options))
    groups = make_light_groups(frame, store, hashed=options.light_ids == "hash")
    if groups:
        name = "autoware_perception_msgs/TrafficLightGroupArray"
        stamp = make_time(store, time_us)
        yield publish("traffic_lights", store[name](stamp=stamp, traffic_light_groups=groups))
    yield publish("extension", make_text(store, extension_text(frame)))


def check_store(store: MessageStore, options: AutowareOptions) -> None:
    """Check that a store holds what the options need.

    Raises:
        ValueError: it does not.
    """
    if store.is_ros1:
        raise ValueError(
            f"distro must be one of ROS 2 for Autoware; got {store.distro!r}: choose humble"
        )
    if options.hazards and store.autoware != "newest":
        raise ValueError(
            "autoware must be 'newest' for the label HAZARD, which earlier versions lack; got "
            f"{store.autoware!r}"
        )


def make_detected_objects(
    frame: PlanningFrame, store: MessageStore, options: AutowareOptions
) -> Any:
    """Return DetectedObjects; detections have no id."""
    known = ~np.isnan(frame.objects.velocity).any(1)
    spread = frame.objects.covariance is not None

    def kinematics(row: int) -> Any:
        return store["autoware_perception_msgs/DetectedObjectKinematics"](
            pose_with_covariance=_pose(frame, store, row),
            has_position_covariance=spread,
            orientation_availability=_availability(frame, row),
            twist_with_covariance=_twist(frame, store, row),
            has_twist=bool(known[row]),
            has_twist_covariance=spread and bool(known[row]),
        )

    return _make_objects("Detected", frame, store, options, kinematics)


def make_tracked_objects(
    frame: PlanningFrame, store: MessageStore, options: AutowareOptions
) -> Any:
    """Return TrackedObjects; the frame's objects must have identities."""

    def kinematics(row: int) -> Any:
        velocity = np.nan_to_num(frame.objects.velocity[row])
        return store["autoware_perception_msgs/TrackedObjectKinematics"](
            pose_with_covariance=_pose(frame, store, row),
            twist_with_covariance=_twist(frame, store, row),
            acceleration_with_covariance=_no_acceleration(store),
            orientation_availability=_availability(frame, row),
            is_stationary=bool(np.hypot(*velocity) < STANDING_MPS),
        )

    return _make_objects("Tracked", frame, store, options, kinematics)


def make_predicted_objects(
    frame: PlanningFrame, store: MessageStore, options: AutowareOptions
) -> Any:
    """Return PredictedObjects with one path each, of confidence 1; the frame must have paths.

    A path starts with the present pose, as Autoware's own do, and stays at the object's height.
    """
    paths = frame.paths
    assert paths is not None  # checked by ``publications``
    nanoseconds = round(paths.time_step_s * 1e9)
    step = store["builtin_interfaces/Duration"](
        sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000
    )

    def kinematics(row: int) -> Any:
        center, later = frame.objects.center[row], paths.position[row]
        heights = np.full((len(later), 1), center[2])
        positions = np.concatenate((center[None], np.concatenate((later, heights), 1)))
        yaws = np.append(frame.objects.yaw[row], paths.yaw[row])
        poses = make_poses(store, positions, yaws)
        path = store["autoware_perception_msgs/PredictedPath"](
            path=poses, time_step=step, confidence=1.0
        )
        return store["autoware_perception_msgs/PredictedObjectKinematics"](
            initial_pose_with_covariance=_pose(frame, store, row),
            initial_twist_with_covariance=_twist(frame, store, row),
            initial_acceleration_with_covariance=_no_acceleration(store),
            predicted_paths=[path],
        )

    return _make_objects("Predicted", frame, store, options, kinematics)


def _make_objects(
    kind: str,
    frame: PlanningFrame,
    store: MessageStore,
    options: AutowareOptions,
    kinematics: Callable[[int], Any],
) -> Any:
    """Return the message of all objects: "Detected", or with their ids "Tracked", "Predicted"."""
    ids: list[dict[str, Any]] = [{} for _ in range(len(frame.objects))]
    if kind != "Detected":
        ids = [{"object_id": _uuid(store, key.bytes)} for key in frame.object_ids()]
    found = [
        store[f"autoware_perception_msgs/{kind}Object"](
            existence_probability=float(frame.objects.existence[row]),
            classification=_classification(frame, store, row, options),
            kinematics=kinematics(row),
            shape=_shape(frame, store, row),
            **own,
        )
        for row, own in enumerate(ids)
    ]
    header = make_header(store, frame.timestamp_us, BASE_LINK)
    return store[f"autoware_perception_msgs/{kind}Objects"](header=header, objects=found)


def _pose(frame: PlanningFrame, store: MessageStore, row: int) -> Any:
    objects = frame.objects
    spread = objects.pose_covariance(row)
    return make_pose_with_covariance(store, objects.center[row], float(objects.yaw[row]), spread)


def _twist(frame: PlanningFrame, store: MessageStore, row: int) -> Any:
    objects = frame.objects
    spread = objects.own_velocity_covariance
    block = None if spread is None else spread[row]
    turn_rate = 0.0 if objects.turn_rate is None else float(objects.turn_rate[row])
    return make_twist_with_covariance(store, objects.own_velocity[row], block, turn_rate)


def _no_acceleration(store: MessageStore) -> Any:
    zero = make_vector(store, np.zeros(3))
    accel = store["geometry_msgs/Accel"](linear=zero, angular=zero)
    return store["geometry_msgs/AccelWithCovariance"](accel=accel, covariance=np.zeros(36))


def _availability(frame: PlanningFrame, row: int) -> int:
    return SIGN_UNKNOWN if frame.objects.class_names[row] in OBSTACLES else AVAILABLE


def _classification(
    frame: PlanningFrame, store: MessageStore, row: int, options: AutowareOptions
) -> list[Any]:
    name = frame.objects.class_names[row]
    label = LABELS[name]
    if options.hazards:
        standing = np.hypot(*np.nan_to_num(frame.objects.velocity[row])) < STANDING_MPS
        if name in OBSTACLES or (name == "construction_vehicle" and standing):
            label = HAZARD
    return [store["autoware_perception_msgs/ObjectClassification"](label=label, probability=1.0)]


def _shape(frame: PlanningFrame, store: MessageStore, row: int) -> Any:
    return store["autoware_perception_msgs/Shape"](
        type=BOUNDING_BOX,
        footprint=store["geometry_msgs/Polygon"](points=[]),
        dimensions=make_vector(store, frame.objects.size[row]),
    )


def _uuid(store: MessageStore, data: bytes) -> Any:
    return store["unique_identifier_msgs/UUID"](uuid=np.frombuffer(data, dtype=np.uint8))
