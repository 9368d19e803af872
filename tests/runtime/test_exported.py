"""Detectors of exported models: streams, sizes and refusals, with torch as the runtime."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bevstack.config import Config, ImageConfig, TemporalConfig
from bevstack.export.onnx.check import Tolerances, count_unmatched
from bevstack.export.onnx.detector import reference_session
from bevstack.export.onnx.graph_info import GraphInfo
from bevstack.export.runtimes import TorchSession
from bevstack.models.layers.sizes import Bounds
from bevstack.runtime.detector import Detector, build
from bevstack.runtime.exported import ExportedDetector
from bevstack.types import Clip, Detections, Frame, Reset
from tests.small_world import CONFIG as SMALL
from tests.small_world import dataset, small_world

# Images of 225x400 become 64x114. Both sides pad them to 64x128: padding affects the boxes.
CONFIG = replace(SMALL, images=ImageConfig(size=(64, 128)))
ROOMY = Bounds(pairs=1000, candidates=1000, rounds=1000, mirrored=0)


def temporal(alignment: str) -> Config:
    section = TemporalConfig(alignment=alignment, num_fusion=1, inter_channels=32, norm="BN")
    return replace(CONFIG, frames=(-2, -1, 0), temporal=section)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    """Return the frames of two scenes, three each."""
    data = dataset(small_world(tmp_path_factory), "synth_val")
    return [data.frame(index) for index in range(6)]


def session_of(
    detector: Detector, frame: Frame, *, stream: bool, bounds: Bounds = ROOMY, batch: int = 1
) -> TorchSession:
    from bevstack.datasets.collate import stack_clips

    info = GraphInfo(
        config=detector.config,
        weights=detector.fingerprint(),
        bounds=bounds,
        stream=stream,
        cameras=8,  # two more than the frames have
        batch=batch,
    )
    prepared = stack_clips([detector.prepare(frame)] * batch)
    return reference_session(detector.model, info, prepared)


def assert_same(got: Detections, wanted: Detections) -> None:
    assert len(wanted) > 5
    # Images pass through whole grey levels, which their normalisation restores to rounding. Equal
    # scores of random weights then change places.
    assert count_unmatched(wanted, got, Tolerances(score=1e-5), {}) == 0
    torch.testing.assert_close(got.scores, wanted.scores, rtol=1e-4, atol=1e-6)
    assert got.class_names == wanted.class_names


@pytest.mark.parametrize("alignment", ["reproject", "warp"])
def test_a_stream_equals_that_of_the_weights(frames: list[Frame], alignment: str) -> None:
    detector = build(temporal(alignment))
    exported = ExportedDetector(session_of(detector, frames[0], stream=True))
    ours, theirs = detector.stream(), exported.stream()
    resets = []
    for frame in frames:
        assert_same(theirs.step(frame), ours.step(frame))
        assert theirs.reset == ours.reset
        resets.append(ours.reset)
    assert resets == [Reset.START, Reset.NONE, Reset.NONE, Reset.SCENE, Reset.NONE, Reset.NONE]


def test_a_model_of_single_frames_has_no_history(frames: list[Frame]) -> None:
    detector = build(temporal("reproject"))
    exported = ExportedDetector(session_of(detector, frames[0], stream=False))
    stream = exported.stream()
    for frame, found in zip(frames[:2], exported.predict_batch(frames[:2]), strict=True):
        assert_same(found, detector.predict(frame))
        assert_same(stream.step(frame), detector.predict(frame))
    assert exported.fingerprint() == detector.fingerprint()
    assert exported.mode.startswith("ExportedDetector(small: single frames, torch ")


def test_frames_beyond_the_bounds_of_the_model_are_refused(frames: list[Frame]) -> None:
    tight = replace(ROOMY, pairs=1)
    detector = build(CONFIG)
    exported = ExportedDetector(session_of(detector, frames[0], stream=False, bounds=tight))
    with pytest.raises(ValueError, match="counts of a frame must not exceed the bounds"):
        exported.predict(frames[0])


def test_clips_and_models_of_several_samples_are_refused(frames: list[Frame]) -> None:
    detector = build(CONFIG)
    exported = ExportedDetector(session_of(detector, frames[0], stream=False))
    with pytest.raises(ValueError, match="an exported model takes frames and streams"):
        exported.predict_clip(Clip((frames[0],), (0,)))
    with pytest.raises(ValueError, match="frames must hold at least one"):
        exported.predict_batch([])
    with pytest.raises(ValueError, match="model must be exported for one sample; got 2"):
        ExportedDetector(session_of(detector, frames[0], stream=False, batch=2))
