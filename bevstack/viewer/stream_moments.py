"""Moments of a stream: the boxes, tracks, cues and trust of each step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bevstack.geometry import invert_se3
from bevstack.render import Surroundings
from bevstack.render.layers import as_array
from bevstack.runtime.stream_protocol import StreamState
from bevstack.runtime.traffic_pictures import state_layer
from bevstack.types import Detections, Frame
from bevstack.types.health import CameraState
from bevstack.viewer.moment import NO_IDENTITY, BoxArrays, CameraView, Moment, Predicted
from bevstack.viewer.own_paths import StreamPaths


class StreamMoments:
    """Author of the moments of one stream, in order of time.

    Args:
        scene: name of the drive.
        model: name of the model.
        class_names: of the detector.
    """

    def __init__(self, scene: str, model: str, *, class_names: tuple[str, ...]) -> None:
        self._scene, self._model, self._class_names = scene, model, class_names
        self._paths = StreamPaths(model)
        self._count = 0

    def moment(
        self,
        frame: Frame,
        detections: Detections,  # in the frame's bev frame
        state: StreamState,
        *,
        identities: Tensor | None,  # (D,) int64 tracks of the boxes; None: nothing is tracked
        cameras: tuple[CameraView, ...],
    ) -> Moment:
        """Return the moment of the next step."""
        boxes = boxes_from(detections, frame, identities)
        pose = None if frame.world_from_ego is None else as_array(frame.world_from_ego)
        self._paths.add(frame.timestamp_us, boxes, pose)
        score = detections.scores.numpy().astype(np.float64)
        moment = Moment(
            scene=self._scene,
            index=self._count,
            timestamp_us=frame.timestamp_us,
            class_names=self._class_names,
            sample_token=frame.sample_token,
            world_from_ego=pose,
            predicted=(Predicted(name=self._model, boxes=boxes, score=score),),
            cameras=cameras,
            surroundings=Surroundings(trail=self._paths.own_trail(pose)),
            traffic=state_layer(frame, state),
            sectors=state.sectors,
            trails=self._paths.trails(boxes, pose),
            notes=camera_notes(state.health),
        )
        self._count += 1
        return moment


def boxes_from(detections: Detections, frame: Frame, identities: Tensor | None) -> BoxArrays:
    """Return a detector's boxes in the ego frame."""
    boxes = detections.boxes.to(torch.float64)
    if frame.bev_from_ego is not None:
        boxes = boxes.transformed(invert_se3(frame.bev_from_ego))
    count = len(detections)
    numbers = np.full(count, NO_IDENTITY, np.int64)
    if identities is not None:
        numbers = identities.numpy().astype(np.int64)
    return BoxArrays(
        center_m=as_array(boxes.center),
        size_m=as_array(boxes.size),
        yaw_rad=as_array(boxes.yaw),
        velocity_mps=as_array(boxes.velocity),
        label=detections.labels.numpy().astype(np.int64),
        identity=numbers,
        counted=np.zeros(count, np.bool_),
    )


def camera_notes(health: Mapping[str, CameraState]) -> tuple[str, ...]:
    """Return a note for each camera that is not in order."""
    return tuple(
        f"camera {name} is {state.value.replace('_', ' ')}"
        for name, state in health.items()
        if state is not CameraState.OK
    )
