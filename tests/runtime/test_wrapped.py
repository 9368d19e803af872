"""Detectors around another one: they return its results, except for what they change."""

from __future__ import annotations

import torch

from bevstack.experiments.judge.detectors import FrameByFrame
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.stream_protocol import FrameDetector
from bevstack.runtime.tracked import TrackedDetector
from bevstack.runtime.with_cues import CueDetector
from tests.runtime.traffic_scenes import BoxDetector, KnowingPredictor, street_frame


def wrappings(inner: FrameDetector) -> dict[str, FrameDetector]:
    """Return every kind of detector that holds another one, by name of its class."""
    return {
        "CueDetector": CueDetector(inner, KnowingPredictor()),
        "MirroredDetector": MirroredDetector(inner),
        "TrackedDetector": TrackedDetector(inner),
        "FrameByFrame": FrameByFrame(inner),  # type: ignore[arg-type]  # any detector will do
    }


def test_wrapped_detectors_have_the_inner_ones_configuration_classes_and_digest() -> None:
    inner = BoxDetector()
    for name, wrapped in wrappings(inner).items():
        assert wrapped.config is inner.config
        assert wrapped.class_names == wrapped.classes == inner.class_names  # type: ignore[attr-defined]
        assert wrapped.fingerprint() == "one box"
        assert repr(wrapped) == f"{name}({inner!r})"


def test_modes_name_what_changes_the_boxes() -> None:
    modes = {name: wrapped.mode for name, wrapped in wrappings(BoxDetector()).items()}
    assert modes["CueDetector"] == "one box"  # cues change no box
    assert modes["MirroredDetector"] == "MirroredDetector(one box)"
    assert modes["FrameByFrame"] == "FrameByFrame"
    assert modes["TrackedDetector"].startswith("TrackedDetector(one box, TrackingConfig(")


def test_calls_without_a_stream_give_the_inner_ones_boxes() -> None:
    inner = BoxDetector()
    frames = [street_frame(0.0), street_frame(0.5)]
    wanted = inner.predict(frames[0])
    for name, wrapped in wrappings(inner).items():
        if name != "MirroredDetector":  # tests/runtime/test_mirrored.py
            for found in (wrapped.predict(frames[0]), *wrapped.predict_batch(frames)):
                assert torch.equal(found.boxes.center, wanted.boxes.center), name
                assert torch.equal(found.scores, wanted.scores), name
