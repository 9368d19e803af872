from __future__ import annotations

import dataclasses

import pytest
import torch

from bevstack.config import TemporalConfig
from bevstack.runtime.detector import build
from bevstack.runtime.scene_stream import stream_scene
from bevstack.types import Reset
from tests.small_world import CONFIG, dataset, small_world

TEMPORAL = TemporalConfig(alignment="reproject", num_fusion=1, inter_channels=16, norm="BN")


def test_a_scene_is_streamed_in_order_with_history(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    config = dataclasses.replace(CONFIG, frames=(-1, 0), temporal=TEMPORAL)
    detector = build(config)
    world = dataset(small_world(tmp_path_factory), "synth_val")
    scene = world.scene_names[1]
    steps = list(stream_scene(detector, world, scene))
    wanted = [world.sample_token(index) for index in world.scene_indices()[scene]]
    assert [step.frame.sample_token for step in steps] == wanted and len(wanted) == 3
    assert [step.reset for step in steps] == [Reset.START, Reset.NONE, Reset.NONE]
    assert all(step.seconds > 0 for step in steps)
    stream = detector.stream()
    for step in steps:
        again = stream.step(step.frame)
        torch.testing.assert_close(step.detections.scores, again.scores, rtol=0, atol=0)
        torch.testing.assert_close(step.detections.boxes.center, again.boxes.center)
    alone = detector.predict(steps[-1].frame)
    assert not torch.equal(alone.scores, steps[-1].detections.scores)  # history was used


def test_an_unknown_scene_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = dataset(small_world(tmp_path_factory), "synth_val")
    with pytest.raises(ValueError, match=r"scene must be one of scene-6001, .*; got 'scene-2001'"):
        next(stream_scene(build(CONFIG), world, "scene-2001"))
