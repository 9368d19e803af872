"""Frames without usable camera give no boxes, and the stream goes on after them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bevstack.experiments.corruptions.blind import BlindFrameDetector
from bevstack.runtime.detector import Detector, build
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.stream_protocol import ignore_health
from bevstack.runtime.tracked import TrackedDetector
from bevstack.types import Clip, Frame, Reset
from tests.runtime.test_streaming import temporal
from tests.small_world import dataset, small_world


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    """Return the three frames of a scene."""
    data = dataset(small_world(tmp_path_factory), "synth_val")
    return [data.frame(index) for index in range(3)]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return build(temporal())


def without_cameras(frame: Frame) -> Frame:
    return replace(frame, images=[None] * frame.num_cameras, camera_mask=None)


def in_black(frame: Frame) -> Frame:
    return replace(frame, images=[np.zeros_like(image) for image in frame.images])


def test_a_blind_frame_is_left_out_of_the_stream(detector: Detector, frames: list[Frame]) -> None:
    stream = BlindFrameDetector(detector, health=False).stream()
    plain = ignore_health(detector.stream())
    stream.step(frames[0])
    plain.step(frames[0])
    assert stream.reset is Reset.START
    assert len(stream.step(without_cameras(frames[1]))) == 0
    assert stream.reset is Reset.NONE and stream.state.reset is Reset.NONE
    after, wanted = stream.step(frames[2]), plain.step(frames[2])
    assert torch.equal(after.scores, wanted.scores) and stream.reset is plain.reset
    first = BlindFrameDetector(detector, health=False).stream()
    assert len(first.step(without_cameras(frames[0]))) == 0 and first.reset is Reset.NONE


def test_black_cameras_are_masked_with_health_only(detector: Detector, frames: list[Frame]) -> None:
    black = in_black(frames[0])
    assert len(BlindFrameDetector(detector, health=True).stream().step(black)) == 0
    assert len(BlindFrameDetector(detector, health=False).stream().step(black)) > 0
    one = replace(frames[0], images=[black.images[0], *frames[0].images[1:]])
    lost = replace(frames[0], images=[None, *frames[0].images[1:]], camera_mask=None)
    watched = BlindFrameDetector(detector, health=True).stream().step(one)
    wanted = BlindFrameDetector(detector, health=False).stream().step(lost)
    assert torch.equal(watched.scores, wanted.scores)
    modes = {BlindFrameDetector(detector, health=on).mode for on in (True, False)}
    assert len(modes) == 2  # finished scenes of one are not reused for the other


def test_tracks_go_on_through_a_blind_frame(detector: Detector, frames: list[Frame]) -> None:
    tracked = TrackedDetector(BlindFrameDetector(MirroredDetector(detector), health=False))
    stream = tracked.stream()
    stream.step(frames[0])
    identities = set(stream.tracks.identity.tolist())
    stream.step(without_cameras(frames[1]))
    assert identities & set(stream.tracks.identity.tolist())


def test_clips_leave_blind_frames_out(detector: Detector, frames: list[Frame]) -> None:
    blind = BlindFrameDetector(detector, health=False)
    offsets = detector.config.frames
    past: list[Frame | None] = [None] * (len(offsets) - 2)
    with_gap = Clip((*past, None, frames[1]), offsets)
    with_blind = Clip((*past, without_cameras(frames[0]), frames[1]), offsets)
    got, wanted = blind.predict_clip(with_blind), detector.predict_clip(with_gap)
    assert torch.equal(got.scores, wanted.scores)
    assert len(blind.predict_clip(Clip((*past, None, without_cameras(frames[1])), offsets))) == 0


def test_health_needs_a_stream(detector: Detector) -> None:
    class LooksAhead(BlindFrameDetector):
        @property
        def config(self):  # type: ignore[no-untyped-def]
            return replace(detector.config, frames=(0, 1))

    ahead = LooksAhead(detector, health=False)
    with pytest.raises(ValueError, match="health must be off for a model that uses future frames"):
        BlindFrameDetector(ahead, health=True)
