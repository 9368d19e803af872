"""Cameras whose pictures do not move as their calibration predicts: turned or swapped ones."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config.health import HealthConfig
from bevstack.runtime.health.motion import (
    PointMotion,
    TurnFit,
    View,
    fit_turn,
    score_view,
    track_points,
)
from bevstack.runtime.health.pictures import reduced_intrinsics
from bevstack.runtime.health.verticals import Tilt, fit_tilt, upright_edges
from bevstack.types import Frame
from bevstack.types.health import CameraState


@dataclass(frozen=True)
class Look:
    """One reduced picture of a camera with its time, pose and calibration."""

    grey: NDArray[np.uint8]  # (h, w)
    time_us: int
    world_from_ego: NDArray[np.float64] | None  # (4, 4) at that time
    view: View

    @staticmethod
    def take(frame: Frame, camera: int, grey: NDArray[np.uint8], pose: Tensor | None) -> Look:
        """Return the look of a frame's camera.

        Args:
            frame: the frame.
            camera: index.
            grey: the reduced picture.
            pose: (4, 4) world_from_ego at the picture's time.
        """
        image = frame.images[camera]
        assert image is not None  # ``grey`` was made of it
        height, width = grey.shape
        intrinsics = reduced_intrinsics(
            frame.intrinsics[camera].numpy(), (image.shape[0], image.shape[1]), (height, width)
        )
        time_us = frame.camera_timestamp_us[camera] if frame.camera_timestamp_us else 0
        return Look(
            grey,
            time_us or frame.timestamp_us,
            None if pose is None else pose.numpy(),
            View(intrinsics, frame.ego_from_cam[camera].numpy()),
        )

    def distance_m(self, earlier: Look) -> float:
        """Return the way of the vehicle since an earlier look; 0 without poses."""
        if self.world_from_ego is None or earlier.world_from_ego is None:
            return 0.0
        return float(np.linalg.norm(self.world_from_ego[:3, 3] - earlier.world_from_ego[:3, 3]))


@dataclass
class _Examined:
    """Memory of one camera."""

    last: Look | None = None
    due_us: int = 0  # time of the next examination
    motions: deque[PointMotion] = field(default_factory=deque)
    edges: deque[NDArray[np.float64]] = field(default_factory=deque)  # as many, by deviation
    is_suspect: bool = False  # the last examination showed a turned camera
    state: CameraState = CameraState.OK


class RigMotion:
    """Judge of the motion in the pictures of a rig.

    Each camera is examined every ``motion_period_s``, one after the other, if two pictures follow
    each other within ``max_pair_s`` and the vehicle drives. A state lasts until the evidence ends.
    A turned camera must show in two successive examinations.

    Args:
        config: thresholds.
    """

    def __init__(self, config: HealthConfig) -> None:
        self.config = config
        self._cameras: dict[str, _Examined] = {}

    def judge(
        self,
        states: Sequence[CameraState],  # N
        looks: Mapping[int, Look],  # by camera, of those with a usable picture
        labels: Sequence[str],  # N
    ) -> list[CameraState]:  # N
        """Return the states with those of turned and swapped cameras filled in."""
        examined = [
            label
            for index, label in enumerate(labels)
            if self._examine(label, looks.get(index), index / len(labels))
        ]
        views = {label: looks[i].view for i, label in enumerate(labels) if i in looks}
        for label in examined:
            self._cameras[label].state = self._conclude(label, views)
        result = list(states)
        found = {index: self._cameras[labels[index]].state for index in looks}
        turned = [index for index, state in found.items() if state is CameraState.TURNED]
        if len(turned) > self.config.max_turned:  # then the poses are wrong, not the cameras
            found.update(dict.fromkeys(turned, CameraState.OK))
        for index, state in found.items():
            result[index] = result[index] if state is CameraState.OK else state
        return result

    def _examine(self, label: str, look: Look | None, phase: float) -> bool:
        """Track a camera's points since the last picture, if it is time; return True then."""
        camera = self._cameras.setdefault(label, _Examined())
        last, camera.last = camera.last, look
        if look is None or last is None:
            return False
        if not _same_view(look.view, last.view):
            camera.motions.clear()
            camera.edges.clear()
            camera.is_suspect, camera.state = False, CameraState.OK
            return False
        elapsed_s = 1e-6 * (look.time_us - last.time_us)
        if not 0 < elapsed_s <= self.config.max_pair_s or look.grey.shape != last.grey.shape:
            return False
        if not camera.due_us:  # spread over the period
            camera.due_us = look.time_us + int(1e6 * phase * self.config.motion_period_s)
        if look.time_us < camera.due_us or look.world_from_ego is None:
            return False
        if look.distance_m(last) < self.config.min_speed_mps * elapsed_s:
            return False
        assert last.world_from_ego is not None  # the distance is 0 without it
        # A tenth early: pictures of 12 Hz come every 83 ms, six of them just before the period.
        camera.due_us = look.time_us + int(0.9e6 * self.config.motion_period_s)
        before, after = track_points(last.grey, look.grey)
        motion = np.linalg.inv(last.world_from_ego) @ look.world_from_ego
        camera.motions.append(PointMotion(before, after, motion[:3, :3], motion[:3, 3]))
        camera.edges.append(upright_edges(look.grey, look.view))
        while len(camera.motions) > self.config.motion_pairs:
            camera.motions.popleft()
            camera.edges.popleft()
        return True

    def _conclude(self, label: str, views: Mapping[str, View]) -> CameraState:
        motions = self._cameras[label].motions
        if not self._is_enough(motions):
            return self._cameras[label].state
        if self._find_swapped(label, views) is not None:
            return CameraState.SWAPPED
        camera = self._cameras[label]
        is_turned = self._is_tilted(fit_tilt(camera.edges))
        is_turned = is_turned or self._is_turned(fit_turn(motions, views[label]))
        was_suspect, camera.is_suspect = camera.is_suspect, is_turned
        return CameraState.TURNED if is_turned and was_suspect else CameraState.OK

    def _is_enough(self, motions: Collection[PointMotion]) -> bool:
        points = sum(len(motion.before) for motion in motions)
        return len(motions) == self.config.motion_pairs and points >= self.config.min_points

    def _is_turned(self, fit: TurnFit) -> bool:
        config = self.config
        return (
            fit.gain >= config.turn_gain
            and fit.agreement > config.turn_agreement
            and fit.angle_rad >= math.radians(config.min_turn_deg)
            and fit.backward <= config.max_backward
        )

    def _is_tilted(self, tilt: Tilt) -> bool:
        config = self.config
        return (
            abs(tilt.angle_deg) >= config.min_tilt_deg
            and tilt.prominence >= config.tilt_prominence
            and tilt.edges >= config.min_edges
        )

    def _find_swapped(self, label: str, views: Mapping[str, View]) -> str | None:
        """Return the camera whose pictures this one shows, if that one shows those of this one."""
        own = self._cameras[label].motions
        if score_view(own, views[label]) > self.config.swap_own_share:
            return None
        for other, view in views.items():
            theirs = self._cameras[other].motions
            if other == label or not self._is_enough(theirs):
                continue
            pairs = ((own, views[label], view), (theirs, view, views[label]))
            if all(self._fits_better(*pair) for pair in pairs):
                return other
        return None

    def _fits_better(self, motions: Collection[PointMotion], view: View, other: View) -> bool:
        own = score_view(motions, view)
        gain = score_view(motions, other) - own
        return own <= self.config.swap_own_share and gain >= self.config.swap_gain


def _same_view(view: View, other: View) -> bool:
    return np.array_equal(view.ego_from_cam, other.ego_from_cam) and np.array_equal(
        view.intrinsics, other.intrinsics
    )
