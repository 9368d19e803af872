"""The demo prints and draws lights and signs exactly if the weights have the task."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

import bevstack
from bevstack.cli.demo_traffic import print_traffic
from bevstack.cli.main import main
from bevstack.models.build import build_model, save_model
from bevstack.runtime.scene_stream import stream_scene
from tests.runtime.traffic_weights import write_both
from tests.small_world import CONFIG, SPEC, dataset, small_world


def test_the_scene_is_scored_and_written(tmp_path_factory, tmp_path, capsys) -> None:
    data = dataset(small_world(tmp_path_factory), "synth_val")
    scene = data.scene_names[0]
    detector = bevstack.load(write_both(tmp_path / "both.safetensors"))
    steps = list(stream_scene(detector, data, scene))
    print_traffic(steps, detector, data, tmp_path, split=[scene])
    printed = capsys.readouterr().out
    assert f"traffic lights and signs on this scene, {SPEC.samples_per_scene} samples:" in printed
    assert "DET_t" in printed and "attribute" in printed
    assert json.loads((tmp_path / "traffic_metrics.json").read_text())
    assert (tmp_path / "cues.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("lights", [True, False])
def test_the_demo_promises_nothing_that_the_weights_lack(lights: bool, tmp_path, capsys) -> None:
    weights: Path = tmp_path / "weights.safetensors"
    if lights:
        write_both(weights)
    else:
        save_model(weights, build_model(CONFIG), CONFIG, {"step": "0"})
    out = tmp_path / "demo"
    arguments = ["demo", "--quick", "--weights", str(weights), "--seed", "5", "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert ("traffic lights and signs on this scene" in printed) == lights
    assert ("DET_t" in printed) == lights and (out / "cues.json").exists() == lights
    still = cv2.imread(str(next((out / "stills").iterdir())))
    assert still is not None
