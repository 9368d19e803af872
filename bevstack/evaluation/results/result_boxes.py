"""Conversion of detections to nuScenes results, boxes in the world frame with attributes, and back.

BEVFormer v2 specification, section 13. The format's (width, length, height) and quaternions are
converted only here and in ``submission``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.evaluation.results.box_entries import MAX_BOXES
from bevstack.geometry import (
    invert_se3,
    quaternion_from_rotation,
    rotation_from_quaternion,
    transform_points,
    yaw_from_rotation,
)
from bevstack.tables.calibration import check_class_names
from bevstack.tables.names import DETECTION_RANGE_M
from bevstack.types import Boxes3D, Detections, Frame
from bevstack.vocabulary import DETECTION_CLASSES

MOVING_MPS = 0.2  # faster boxes count as moving

# Attribute of a detected box by class: (moving, standing).
ATTRIBUTE_OF_CLASS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "barrier": ("", ""),
        "bicycle": ("cycle.with_rider", "cycle.without_rider"),
        "bus": ("vehicle.moving", "vehicle.stopped"),
        "car": ("vehicle.moving", "vehicle.parked"),
        "construction_vehicle": ("vehicle.moving", "vehicle.parked"),
        "motorcycle": ("cycle.with_rider", "cycle.without_rider"),
        "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
        "traffic_cone": ("", ""),
        "trailer": ("vehicle.moving", "vehicle.parked"),
        "truck": ("vehicle.moving", "vehicle.parked"),
    }
)


@dataclass(frozen=True)
class ResultBoxes:
    """Boxes of the results format as columns, in the world frame."""

    translation: NDArray[np.float64]  # (M, 3) metres, centre of gravity
    size: NDArray[np.float64]  # (M, 3) metres, (width, length, height)
    rotation: NDArray[np.float64]  # (M, 4) quaternion wxyz
    velocity: NDArray[np.float64]  # (M, 2) metres per second along the world's (x, y)
    score: NDArray[np.float64]  # (M,)
    label: NDArray[np.int64]  # (M,) index into DETECTION_CLASSES
    attribute: tuple[str, ...]  # M names, "" for none

    def __len__(self) -> int:
        return len(self.score)

    def detections(
        self,
        bev_from_world: Tensor,  # (4, 4)
        class_names: Sequence[str] = DETECTION_CLASSES,
    ) -> Detections:
        """Return the boxes of the given classes in a bev frame, best first."""
        bev_from_world = bev_from_world.to(torch.float64)
        known = [i for i, n in enumerate(self.label) if DETECTION_CLASSES[n] in class_names]
        order = np.array(known, dtype=np.int64)
        order = order[np.argsort(-self.score[order], kind="stable")]
        rotation = bev_from_world[:3, :3] @ rotation_from_quaternion(
            torch.from_numpy(self.rotation[order])
        )
        velocity = torch.from_numpy(self.velocity[order]) @ bev_from_world[:2, :2].T
        boxes = Boxes3D(
            center=transform_points(bev_from_world, torch.from_numpy(self.translation[order])),
            size=torch.from_numpy(self.size[order][:, [1, 0, 2]]),
            yaw=yaw_from_rotation(rotation),
            velocity=velocity,
        )
        labels = [list(class_names).index(DETECTION_CLASSES[n]) for n in self.label[order]]
        scores = torch.from_numpy(self.score[order]).to(torch.float32)
        return Detections(boxes.to(torch.float32), scores, torch.tensor(labels, dtype=torch.int64))


def result_boxes(
    detections: Detections,
    world_from_bev: Tensor,  # (4, 4)
    bev_from_ego: Tensor | None = None,  # (4, 4); None: the bev frame is the ego frame
    class_names: Sequence[str] = DETECTION_CLASSES,
) -> ResultBoxes:
    """Transform detections to the world frame; leave out those beyond their class's scoring range.

    The range is the distance from the ego's origin in the (x, y) plane of the ego frame. Detections
    are given best first; the first ``MAX_BOXES`` are kept.

    Raises:
        ValueError: a box or score is not finite, or nuScenes does not have a class.
    """
    check_class_names(class_names)
    _check_finite(detections)
    boxes = detections.boxes.to(torch.float64)
    center_ego = boxes.center
    if bev_from_ego is not None:
        center_ego = transform_points(invert_se3(bev_from_ego.to(torch.float64)), boxes.center)
    ranges = torch.tensor([DETECTION_RANGE_M[name] for name in class_names], dtype=torch.float64)
    in_range = center_ego[:, :2].norm(dim=-1) <= ranges[detections.labels]
    kept = in_range.nonzero()[:MAX_BOXES, 0]
    boxes, names = boxes[kept], [class_names[label] for label in detections.labels[kept].tolist()]
    world_from_bev = world_from_bev.to(torch.float64)
    velocity = (boxes.velocity @ world_from_bev[:2, :2].T).numpy()
    moving = np.hypot(velocity[:, 0], velocity[:, 1]) > MOVING_MPS
    return ResultBoxes(
        translation=transform_points(world_from_bev, boxes.center).numpy(),
        size=boxes.size[:, [1, 0, 2]].numpy(),
        rotation=quaternion_from_rotation(
            world_from_bev[:3, :3] @ _rotation_about_z(boxes.yaw)
        ).numpy(),
        velocity=velocity,
        score=detections.scores[kept].to(torch.float64).numpy(),
        label=np.array([DETECTION_CLASSES.index(name) for name in names], dtype=np.int64),
        attribute=tuple(
            ATTRIBUTE_OF_CLASS[name][0 if is_moving else 1]
            for name, is_moving in zip(names, moving, strict=True)
        ),
    )


def results_of_frame(
    detections: Detections,
    frame: Frame,
    class_names: Sequence[str] = DETECTION_CLASSES,
) -> list[dict[str, object]]:
    """Return the results entries of one frame.

    Raises:
        ValueError: the frame has no pose or no sample token; see also ``result_boxes``.
    """
    world_from_bev = frame.world_from_bev()
    if world_from_bev is None or not frame.sample_token:
        raise ValueError(
            "frame must have world_from_ego and sample_token for a submission; got "
            f"sample_token {frame.sample_token!r} and "
            f"{'no pose' if world_from_bev is None else 'a pose'}"
        )
    boxes = result_boxes(detections.to("cpu"), world_from_bev, frame.bev_from_ego, class_names)
    return result_entries(boxes, frame.sample_token)


def result_entries(boxes: ResultBoxes, sample_token: str) -> list[dict[str, object]]:
    """Return the boxes of one sample as JSON objects of the format; float32 values stay exact."""
    columns = zip(
        boxes.translation.tolist(),
        boxes.size.tolist(),
        boxes.rotation.tolist(),
        boxes.velocity.tolist(),
        boxes.label.tolist(),
        boxes.score.tolist(),
        boxes.attribute,
        strict=True,
    )
    return [
        {
            "sample_token": sample_token,
            "translation": translation,
            "size": size,
            "rotation": rotation,
            "velocity": velocity,
            "detection_name": DETECTION_CLASSES[label],
            "detection_score": score,
            "attribute_name": attribute,
        }
        for translation, size, rotation, velocity, label, score, attribute in columns
    ]


def _check_finite(detections: Detections) -> None:
    """Check that centers, sizes, headings and scores are finite."""
    boxes = detections.boxes
    for name, value in (
        ("center", boxes.center),
        ("size", boxes.size),
        ("yaw", boxes.yaw),
        ("scores", detections.scores),
    ):
        if not bool(torch.isfinite(value).all()):
            row = int((~torch.isfinite(value)).nonzero()[0, 0])
            raise ValueError(
                f"detections must be finite; got {name} = {value[row].tolist()} in box {row}: "
                "check the model's weights and its input"
            )


def _rotation_about_z(
    yaw: Tensor,  # (M,)
) -> Tensor:  # (M, 3, 3)
    """Return rotation matrices about the z axis."""
    cos, sin, zero = torch.cos(yaw), torch.sin(yaw), torch.zeros_like(yaw)
    rows = (
        torch.stack((cos, -sin, zero), -1),
        torch.stack((sin, cos, zero), -1),
        torch.stack((zero, zero, zero + 1), -1),
    )
    return torch.stack(rows, -2)
