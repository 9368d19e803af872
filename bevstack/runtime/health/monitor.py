"""Health of the cameras of one vehicle: a state for each camera of each frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from bevstack.config.health import HealthConfig
from bevstack.runtime.health.clarity import Measured, RigClarity
from bevstack.runtime.health.covers import CoverWatch
from bevstack.runtime.health.ego_path import EgoPath
from bevstack.runtime.health.pictures import (
    difference,
    judge_brightness,
    measure_picture,
    reduce_picture,
)
from bevstack.runtime.health.rig_motion import Look, RigMotion
from bevstack.runtime.health.times import Arrival, judge_arrival
from bevstack.types import Frame
from bevstack.types.health import USABLE, CameraState, used_states

_NONE: Mapping[str, CameraState] = MappingProxyType({})
# Pictures whose points tell nothing about the calibration.
_UNCLEAR = frozenset({CameraState.NOISE, CameraState.BLURRED, CameraState.COVERED})


@dataclass
class _Camera:
    """Memory of one camera."""

    cover: CoverWatch
    arrival: Arrival = field(default_factory=Arrival)
    content: Look | None = None  # the first picture of the present content


class HealthMonitor:
    """Judge of the cameras of one vehicle's frames in order of time.

    Each frame gives one state a camera, by its times first, then by its picture, then by the motion
    in the last pictures. The memory is dropped at a change of the scene and if time goes back.

    Args:
        config: thresholds.
    """

    def __init__(self, config: HealthConfig | None = None) -> None:
        self.config = config or HealthConfig()
        self.states: Mapping[str, CameraState] = _NONE  # of the last frame, by camera
        self._last: Frame | None = None  # as given, and as returned
        self._admitted: Frame | None = None
        self._start()

    def admit(self, frame: Frame) -> Frame:
        """Judge the cameras of the next frame; return it with unusable cameras masked.

        A late camera gets the pose of its own time, if its source gave none. A frame that is given
        twice in a row is judged once.
        """
        if self._admitted is not None and (frame is self._last or frame is self._admitted):
            return self._admitted
        if self._is_elsewhere(frame):
            self._start()
        self._path.add(frame)
        labels = frame.camera_labels()
        for memory in (self._looks, self._measured, self._covered):
            memory.clear()
        states = [self._judge(frame, index, label) for index, label in enumerate(labels)]
        states = self._clarity.judge(states, self._measured, labels)
        if len(self._covered) <= max(1, len(labels) // 2):  # more of them: fog or darkness
            for index in self._covered:
                if states[index] is CameraState.OK:
                    states[index] = CameraState.COVERED
        for index in self._measured:
            if states[index] in _UNCLEAR:
                del self._looks[index]
        states = self._motion.judge(states, self._looks, labels)
        self.states = MappingProxyType(dict(zip(labels, states, strict=True)))
        self._last, self._admitted = frame, self._mask(frame, states)
        return self._admitted

    def _start(self) -> None:
        self._cameras: dict[str, _Camera] = {}
        self._looks: dict[int, Look] = {}
        self._measured: dict[int, Measured] = {}
        self._covered: set[int] = set()
        self._path = EgoPath()
        self._clarity = RigClarity(self.config)
        self._motion = RigMotion(self.config)

    def _is_elsewhere(self, frame: Frame) -> bool:
        last = self._last
        return last is not None and (
            frame.scene_token != last.scene_token or frame.timestamp_us < last.timestamp_us
        )

    def _judge(self, frame: Frame, index: int, label: str) -> CameraState:
        camera = self._cameras.setdefault(label, _Camera(CoverWatch(self.config)))
        limit_ms = self.config.max_camera_age_ms
        state, camera.arrival = judge_arrival(frame, index, camera.arrival, limit_ms)
        if state not in USABLE or state is CameraState.DUPLICATE:
            return state
        found = self._judge_picture(frame, index, camera)
        return state if found is CameraState.OK else found

    def _judge_picture(self, frame: Frame, index: int, camera: _Camera) -> CameraState:
        image = frame.images[index]
        assert image is not None  # cameras without an image have a state by now
        grey = reduce_picture(image, self.config.width_px)
        look = Look.take(frame, index, grey, self._path.camera_pose(frame, index))
        statistics = measure_picture(grey)
        state = judge_brightness(statistics, self.config)
        if state is not CameraState.OK:
            return state
        state = self._judge_content(look, camera)
        if state is not CameraState.OK:
            return state
        if camera.cover.is_covered(look):
            self._covered.add(index)
        self._measured[index] = Measured(statistics, look.time_us)
        self._looks[index] = look
        return CameraState.OK

    def _judge_content(self, look: Look, camera: _Camera) -> CameraState:
        """Return FROZEN or DUPLICATE if the content stays the same while the vehicle moves."""
        content = camera.content
        if content is None or difference(look.grey, content.grey) > self.config.same_level:
            camera.content = look
            return CameraState.OK
        driven_m = look.distance_m(content)
        if driven_m >= self.config.frozen_motion_m:
            return CameraState.FROZEN
        is_same = driven_m > 0.1 * self.config.frozen_motion_m
        return CameraState.DUPLICATE if is_same else CameraState.OK

    def _mask(self, frame: Frame, states: list[CameraState]) -> Frame:
        late = [index for index, state in enumerate(states) if state is CameraState.LATE]
        poses = self._late_poses(frame, late)
        used = used_states(mask_hints=self.config.mask_hints)
        usable = [state in used for state in states]
        for index in late:
            usable[index] = poses is not None
        assert frame.camera_mask is not None  # Frame sets it
        mask = frame.camera_mask & torch.tensor(usable)
        if poses is frame.world_from_ego_at_camera and torch.equal(mask, frame.camera_mask):
            return frame
        return replace(frame, camera_mask=mask, world_from_ego_at_camera=poses)

    def _late_poses(self, frame: Frame, late: list[int]) -> Tensor | None:  # (N, 4, 4)
        """Return the poses at the cameras' times, with those of late cameras filled in.

        None if a late camera needs one that is not known; then all late cameras are masked.
        """
        given = frame.world_from_ego_at_camera
        if not late or given is not None or frame.world_from_ego is None:
            return given
        poses = frame.world_from_ego.repeat(frame.num_cameras, 1, 1)
        for index in late:
            pose = self._path.at(frame.camera_timestamp_us[index])
            if pose is None:
                return None
            poses[index] = pose
        return poses
