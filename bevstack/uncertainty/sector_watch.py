"""Views of the sectors around a vehicle: which cameras see them, now or in the model's history."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config import Config
from bevstack.geometry import CameraRig, invert_se3
from bevstack.types import Frame
from bevstack.types.health import HINTS, USABLE, CameraState
from bevstack.types.sectors import SectorTrust
from bevstack.uncertainty.sectors import (
    BLIND,
    DOUBTFUL,
    LATE,
    REMEMBERED,
    SEEN,
    SectorModel,
    sector_places,
)

_TOLERANCE = 0.5  # of a step of the history, by which a frame may be older than the history


class _Seen(NamedTuple):
    """The cameras of an earlier frame that worked."""

    time_us: int
    world_from_ego: Tensor  # (4, 4)
    rig: CameraRig  # in the ego frame, with the mask of those that worked


class SectorWatch:
    """Judge of the sectors of one vehicle's frames in order of time.

    Args:
        model: the calibration of sectors.

    Example:
        >>> watch = SectorWatch(model)
        >>> watch.look(frame, {"CAM_FRONT": CameraState.OK}).at(12.0, 0.0)
    """

    def __init__(self, model: SectorModel) -> None:
        self.model = model
        self._memory_us = round(1e6 * model.memory_s)
        self._past: deque[_Seen] = deque()
        self._scene_token = ""
        self._places = sector_places(model.num_bearings, model.range_edges_m)
        self._last: tuple[Frame, NDArray[np.int64]] | None = None

    def look(
        self,
        frame: Frame,  # with the mask of the cameras that the detector attends to
        states: Mapping[str, CameraState],  # by camera; a camera without one counts as OK
    ) -> SectorTrust:
        """Return the trust in the sectors of the next frame, in its ego frame.

        A frame that is given twice in a row is judged once. Earlier frames do not count after a
        change of the scene, if time goes back, or without poses.
        """
        return self.model.trust(self.kinds(frame, states))

    def kinds(
        self, frame: Frame, states: Mapping[str, CameraState]
    ) -> NDArray[np.int64]:  # (B, R, P) of KINDS
        """Return the kind of view of each place; see ``look``."""
        if self._last is not None and frame is self._last[0]:
            return self._last[1]
        rig = ego_rig(frame)
        kind = self._kinds(frame, rig, states)
        self._remember(frame, rig, states)
        self._last = (frame, kind)
        return kind

    def _kinds(
        self, frame: Frame, rig: CameraRig, states: Mapping[str, CameraState]
    ) -> NDArray[np.int64]:  # (B, R, P)
        places = torch.from_numpy(self._places.reshape(-1, 3))
        kind = np.full(len(places), BLIND, dtype=np.int64)
        for past in self._usable_past(frame):
            assert frame.world_from_ego is not None  # else there is no past
            past_from_ego = invert_se3(past.world_from_ego) @ frame.world_from_ego
            moved = places @ past_from_ego[:3, :3].T + past_from_ego[:3, 3]
            near = np.linalg.norm(moved[:, :2].numpy(), axis=-1) <= self.model.range_edges_m[-1]
            kind[_visible(past.rig, moved).any(0) & near] = REMEMBERED
        visible = _visible(rig, places)
        for row, label in enumerate(frame.camera_labels()):
            view = kind_of_camera(states.get(label, CameraState.OK))
            kind[visible[row]] = np.minimum(kind[visible[row]], view)
        return kind.reshape(self._places.shape[:-1])

    def _usable_past(self, frame: Frame) -> list[_Seen]:
        is_elsewhere = frame.scene_token != self._scene_token or (
            bool(self._past) and frame.timestamp_us <= self._past[-1].time_us
        )
        if is_elsewhere or frame.world_from_ego is None:
            self._past.clear()
        while self._past and frame.timestamp_us - self._past[0].time_us > self._memory_us:
            self._past.popleft()
        return list(self._past)

    def _remember(self, frame: Frame, rig: CameraRig, states: Mapping[str, CameraState]) -> None:
        self._scene_token = frame.scene_token
        if not self._memory_us or frame.world_from_ego is None:
            return
        good = [states.get(name, CameraState.OK) in USABLE for name in frame.camera_labels()]
        mask = rig.camera_mask & torch.tensor(good)
        seen = CameraRig(rig.intrinsics, rig.bev_from_cam, rig.image_size, mask)
        self._past.append(_Seen(frame.timestamp_us, frame.world_from_ego, seen))


def memory_of(config: Config) -> float:
    """Return the seconds that the history of a configuration reaches back; 0 without history."""
    if config.temporal is None:
        return 0.0
    return (_TOLERANCE - config.frames[0]) * config.temporal.frame_interval_s


def kind_of_camera(state: CameraState) -> int:
    """Return the kind of view that a camera of a state gives, if the detector attends to it."""
    if state in HINTS:
        return DOUBTFUL
    return SEEN if state is CameraState.OK else LATE


def ego_rig(frame: Frame) -> CameraRig:
    """Return the cameras of a frame in its ego frame; lost ones are masked."""
    assert frame.camera_mask is not None  # Frame sets it
    sizes = [(1, 1) if image is None else image.shape[:2] for image in frame.images]
    return CameraRig(frame.intrinsics, frame.ego_from_cam, torch.tensor(sizes), frame.camera_mask)


def _visible(rig: CameraRig, places: Tensor) -> NDArray[np.bool_]:  # (N, P)
    found: NDArray[np.bool_] = rig.visible(*rig.project(places)).numpy()
    return found


__all__ = ["SectorWatch", "ego_rig", "kind_of_camera", "memory_of"]
