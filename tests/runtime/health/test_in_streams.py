"""Streams mask unusable cameras exactly as lost ones, and give the states with every step."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bevstack.runtime.frame_detections_file import read_frame_detections
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.predict_frames import predict_frames
from bevstack.runtime.stream_protocol import ignore_health
from bevstack.runtime.tracked import TrackedDetector
from bevstack.types.health import CameraState

BAD = 3


@pytest.fixture(scope="module")
def black(frames):
    """Return a frame with one black camera, and the same frame without this camera."""
    first = frames[0]
    images = list(first.images)
    images[BAD] = np.zeros_like(images[BAD])
    mask = torch.ones(first.num_cameras, dtype=torch.bool)
    mask[BAD] = False
    return replace(first, images=images), replace(first, camera_mask=mask)


@pytest.mark.parametrize("wrap", [lambda d: d, TrackedDetector, MirroredDetector])
def test_a_black_camera_changes_boxes_as_a_lost_one_does(detector, black, wrap):
    streams = [wrap(detector).stream() for _ in black]
    got, wanted = (stream.step(one) for stream, one in zip(streams, black, strict=True))
    assert torch.equal(got.scores, wanted.scores)
    assert torch.equal(got.boxes.center, wanted.boxes.center)
    name = black[0].camera_names[BAD]
    for stream, state in zip(streams, (CameraState.BLACK, CameraState.MISSING), strict=True):
        assert stream.health[name] is state and stream.state.health == stream.health
        good = {label for label, one in stream.health.items() if one is CameraState.OK}
        assert good == set(black[0].camera_names) - {name}


def test_a_stream_that_ignores_health_uses_the_picture(detector, black):
    stream, plain = ignore_health(detector.stream()), detector.predict(black[0])
    assert torch.equal(stream.step(black[0]).scores, plain.scores)
    assert stream.health == {} and stream.state.health == {}


def test_a_frame_without_a_usable_camera_is_refused_with_its_states(detector, frames):
    stream = detector.stream()
    images = [np.zeros_like(image) for image in frames[0].images]
    with pytest.raises(ValueError, match=r"all are lost .*CAM_BACK is black"):
        stream.step(replace(frames[0], images=images))
    assert set(stream.health.values()) == {CameraState.BLACK}
    assert stream.memory is None
    stream.step(frames[1])
    assert set(stream.health.values()) == {CameraState.OK}


def test_a_drive_goes_on_after_a_frame_without_a_usable_camera(detector, frames, tmp_path):
    class Source:
        """Three frames, of which the second is black in every camera."""

        has_poses = True
        files = SimpleNamespace(lists_frames=True, folder=tmp_path)

        def frames(self, interval_s):
            black = [np.zeros_like(image) for image in frames[1].images]
            return iter([frames[0], replace(frames[1], images=black), frames[2]])

    path = tmp_path / "boxes.json"
    summary = predict_frames(detector, Source(), path)
    results = list(read_frame_detections(path)[0])
    assert summary.num_frames == len(results) == 3
    assert len(results[1].detections) == 0 < len(results[0].detections)
    assert [set(one.health.values()) for one in results] == [
        {CameraState.OK},
        {CameraState.BLACK},
        {CameraState.OK},
    ]
