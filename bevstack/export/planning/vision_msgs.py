"""vision_msgs' Detection3DArray, of ROS 2 and of ROS 1, and a bag of a drive.

Boxes stand in ``base_link``, the project's ego frame; sizes are x = length, y = width, z = height.
The message has no velocity, no path, no light and no sign: they are JSON texts on a topic of their
own. In ROS 1 a class is the index into ``vocabulary.DETECTION_CLASSES``, and tracks have no id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bevstack.export.messages.bag import Publication, write_bag
from bevstack.export.messages.parts import (
    make_header,
    make_pose,
    make_pose_with_covariance,
    make_text,
    make_transform,
    make_vector,
)
from bevstack.export.messages.store import MessageStore
from bevstack.export.planning.extension import extension_text
from bevstack.export.planning.scene import PlanningFrame, check_one_drive
from bevstack.vocabulary import DETECTION_CLASSES

BASE_LINK, MAP = "base_link", "map"
DETECTIONS_TOPIC, EXTENSION_TOPIC = "/bevstack/detections", "/bevstack/extension"


def write_vision_msgs(path: Path, frames: Sequence[PlanningFrame], store: MessageStore) -> int:
    """Write the frames of one drive as a bag, and return the number of messages.

    Raises:
        ModuleNotFoundError: rosbags or mcap is not installed (the extra ``ros``).
        OSError: the file cannot be written.
        ValueError: the frames are not of one drive in order of time, or the path's suffix does not
            fit the distribution: ".mcap" for ROS 2, ".bag" for ROS 1.
    """
    check_one_drive(frames)
    return write_bag(path, (p for frame in frames for p in publications(frame, store)), store)


def publications(frame: PlanningFrame, store: MessageStore) -> Iterator[Publication]:
    """Yield the messages of one frame: /tf, the boxes, and JSON of what the boxes lack."""
    time_us = frame.timestamp_us
    transform = make_transform(store, time_us, frame.world_from_ego, (MAP, BASE_LINK))
    yield Publication("/tf", time_us, transform)
    yield Publication(DETECTIONS_TOPIC, time_us, make_detections(frame, store))
    yield Publication(EXTENSION_TOPIC, time_us, make_text(store, extension_text(frame)))


def make_detections(frame: PlanningFrame, store: MessageStore) -> Any:
    """Return a Detection3DArray; the id of a track is its UUID, that of a detection empty."""
    header = make_header(store, frame.timestamp_us, BASE_LINK)
    found = []
    for row, key in enumerate(frame.object_ids()):
        box = store["vision_msgs/BoundingBox3D"](
            center=make_pose(store, frame.objects.center[row], float(frame.objects.yaw[row])),
            size=make_vector(store, frame.objects.size[row]),
        )
        identity = "" if frame.objects.identity is None else str(key)
        last: dict[str, Any] = {"id": identity}
        if store.is_ros1:
            last = {"source_cloud": _empty_cloud(frame, store)}
        results = [_hypothesis(frame, store, row)]
        found.append(
            store["vision_msgs/Detection3D"](header=header, results=results, bbox=box, **last)
        )
    return store["vision_msgs/Detection3DArray"](header=header, detections=found)


def _hypothesis(frame: PlanningFrame, store: MessageStore, row: int) -> Any:
    objects = frame.objects
    spread = objects.pose_covariance(row)
    pose = make_pose_with_covariance(store, objects.center[row], float(objects.yaw[row]), spread)
    name, score = objects.class_names[row], float(objects.scores[row])
    kind = store["vision_msgs/ObjectHypothesisWithPose"]
    if store.is_ros1:
        return kind(id=DETECTION_CLASSES.index(name), score=score, pose=pose)
    hypothesis = store["vision_msgs/ObjectHypothesis"](class_id=name, score=score)
    return kind(hypothesis=hypothesis, pose=pose)


def _empty_cloud(frame: PlanningFrame, store: MessageStore) -> Any:
    return store["sensor_msgs/PointCloud2"](
        header=make_header(store, frame.timestamp_us, BASE_LINK),
        height=1,
        width=0,
        fields=[],
        is_bigendian=False,
        point_step=1,
        row_step=0,
        data=np.zeros(0, np.uint8),
        is_dense=True,
    )
