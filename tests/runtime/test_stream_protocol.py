"""Detectors hold one another by composition, and any runtime can stand behind the interface."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from bevstack.evaluation.results.submission import read_submission
from bevstack.runtime.detector import Detector, build
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.stream_protocol import FrameDetector, Stream, StreamState, step_each
from bevstack.runtime.tracked import TrackedDetector
from bevstack.tracking import Tracks
from bevstack.types import Boxes3D, Detections, Frame, Reset
from tests.small_world import CONFIG, dataset, small_world
from tests.training.two_ranks import RECIPE, all_stages


class RecordedStream:
    """Boxes of a recording, found by the frame's sample token."""

    uses_history = False
    tracks = Tracks.empty()

    def __init__(self, detector: RecordedDetector) -> None:
        self.detector = detector
        self.reset = Reset.NONE

    @property
    def state(self) -> StreamState:
        return StreamState(reset=self.reset)

    def step(self, frame: Frame) -> Detections:
        return self.detector.predict(frame)


class RecordedDetector:
    """A runtime without torch models: the boxes of another one, stored by sample."""

    config = CONFIG
    class_names = CONFIG.class_names
    mode = "recorded"

    def __init__(self, boxes: dict[str, Detections]) -> None:
        self.boxes = boxes

    def fingerprint(self) -> str:
        return json.dumps(sorted(self.boxes))

    def predict(self, frame: Frame) -> Detections:
        return self.boxes[frame.sample_token]

    def predict_batch(self, frames):
        return [self.predict(frame) for frame in frames]

    def predict_clip(self, clip):
        return self.predict(clip.current)

    def stream(self) -> Stream:
        return RecordedStream(self)

    def step_together(self, streams, frames):
        return step_each(streams, frames)


def moving_boxes(number: int) -> Detections:
    """Three boxes of one class, 1 m further in every frame."""
    count = 3
    center = torch.tensor([[10.0 * i + number, 4.0 * i, 0.5] for i in range(1, count + 1)])
    boxes = Boxes3D(center, torch.ones(count, 3), torch.zeros(count), torch.zeros(count, 2))
    scores = torch.tensor([0.9, 0.8, 0.7])
    return Detections(boxes, scores, torch.full((count,), 3))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


@pytest.fixture
def recorded(root) -> RecordedDetector:
    samples = dataset(root, "synth_val")
    tokens = [samples.sample_token(i) for i in range(len(samples))]
    return RecordedDetector({token: moving_boxes(i) for i, token in enumerate(tokens)})


def test_a_recorded_detector_writes_a_submission(recorded, root, tmp_path):
    detector: FrameDetector = recorded
    samples = dataset(root, "synth_val")
    predict_dataset(detector, samples, tmp_path / "results.json")
    boxes = read_submission(tmp_path / "results.json").boxes
    assert len(boxes.score) == 3 * len(samples)
    assert sorted(set(boxes.score.round(3))) == [0.7, 0.8, 0.9]


def test_a_recorded_detector_is_tracked_and_mirrored(recorded, root):
    samples = dataset(root, "synth_val")
    frames = [samples.frame(i, load_images=False) for i in samples.scene_indices()["scene-6001"]]
    stream: Stream = TrackedDetector(recorded).stream()
    for frame in frames:
        found = stream.step(frame)
    # The boxes stay near the ego vehicle, which moves: some continue tracks, some begin new ones.
    assert len(found) >= 3 and torch.equal(stream.state.tracks.identity, stream.tracks.identity)
    assert len(set(stream.tracks.identity.tolist())) == len(stream.tracks.identity) >= len(found)
    mirrored = MirroredDetector(recorded)
    merged = mirrored.predict(frames[0])
    # the recording answers the mirror image of the frame with the same boxes
    assert 3 <= len(merged) <= 6
    assert len(mirrored.stream().step(frames[0])) == len(merged)


def test_every_call_of_a_wrapping_detector_reaches_the_wrapped_one(root):
    """A tracked, mirrored detector mirrors in ``predict`` too; no inherited method skips it."""
    detector = build(all_stages(RECIPE))
    wrapped = TrackedDetector(MirroredDetector(detector))
    frame = dataset(root, "synth_val").frame(0)
    wanted = MirroredDetector(detector).predict(frame)
    for found in (wrapped.predict(frame), wrapped.predict_batch([frame])[0]):
        assert torch.equal(found.scores, wanted.scores)
    assert not isinstance(wrapped, Detector) and not isinstance(wrapped.detector, Detector)
    assert wrapped.config is detector.config and wrapped.class_names == detector.class_names
    assert wrapped.fingerprint() == detector.fingerprint()
    assert wrapped.mode.startswith("TrackedDetector(MirroredDetector(Detector), ")


def test_streams_of_several_vehicles_step_together_or_one_by_one(root):
    detector = build(all_stages(RECIPE))
    samples = dataset(root, "synth_val")
    frames = [samples.frame(i) for i in range(2)]
    for kind in (detector, MirroredDetector(detector), TrackedDetector(detector)):
        together = [kind.stream() for _ in frames]
        alone = [kind.stream() for _ in frames]
        found = kind.step_together(together, frames)
        wanted = [stream.step(frame) for stream, frame in zip(alone, frames, strict=True)]
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one.scores, other.scores)
        assert [stream.reset for stream in together] == [Reset.START, Reset.START]
        assert [stream.state.reset for stream in together] == [Reset.START, Reset.START]


def test_a_stream_of_another_detector_is_refused(root):
    one, other = build(CONFIG), build(replace(CONFIG, name="other"))
    frame = dataset(root, "synth_val").frame(0)
    with pytest.raises(ValueError, match="streams must be of this detector; got 1 of another one"):
        one.step_together([one.stream(), other.stream()], [frame, frame])
