"""A stream checks its rig once, and again when the calibration changes."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from bevstack.geometry.rig_plausibility import ImplausibleRigWarning
from bevstack.runtime import rig_watch
from bevstack.runtime.rig_watch import RigWatch
from bevstack.types import Frame

AHEAD = torch.tensor([[0.0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]])


def frame(name: str = "CAM_FRONT", pose: torch.Tensor = AHEAD) -> Frame:
    return Frame(
        images=[np.zeros((30, 40, 3), np.uint8), None],
        intrinsics=[[[30.0, 0, 20], [0, 30.0, 15], [0, 0, 1]]] * 2,
        ego_from_cam=torch.stack((pose, AHEAD)),
        camera_names=(name, "lost"),
    )


def test_equal_rigs_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(rig_watch, "find_rig_faults", lambda cameras: calls.append(cameras) or ())
    watch = RigWatch()
    for _ in range(3):
        watch.check(frame())
    assert len(calls) == 1
    watch.check(replace(frame(), camera_mask=torch.tensor([False, False])))
    assert len(calls) == 1
    watch.check(frame("CAM_BACK"))
    moved = AHEAD.clone()
    moved[0, 3] = 1.6
    watch.check(frame("CAM_BACK", moved))
    assert len(calls) == 3
    watch.check(replace(frame("CAM_FRONT_LEFT"), rig_checked=True))
    assert len(calls) == 3


def test_a_stream_warns_once_and_refuses_if_warnings_are_errors(detector, frames) -> None:
    def in_camera_axes(original: Frame) -> Frame:
        poses = original.ego_from_cam.clone()
        poses[:, :3, :3] = poses[:, :3, :3] @ AHEAD[:3, :3].double().T
        return replace(original, ego_from_cam=poses, rig_checked=False)

    stream = detector.stream()
    with pytest.warns(ImplausibleRigWarning, match="camera axes of the vehicle convention") as seen:
        stream.step(in_camera_axes(frames[0]))
    assert len(seen) == frames[0].num_cameras
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImplausibleRigWarning)
        stream.step(in_camera_axes(frames[1]))  # the same rig
        stream.step(replace(frames[2], rig_checked=False))  # another one, which is right
        strict = detector.stream()
        with pytest.raises(ValueError, match="'CAM_FRONT' must look along the ground"):
            strict.step(in_camera_axes(frames[0]))
        assert strict.memory is None
