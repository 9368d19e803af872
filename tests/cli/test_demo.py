"""Files and output of the demo with a small untrained model."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from bevstack.cli import demo
from bevstack.cli.main import main
from bevstack.config import TemporalConfig
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.scoring import evaluate_results
from bevstack.models.build import build_model, save_model
from bevstack.runtime import shipped
from bevstack.runtime.loading import load
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.tracked import TrackedDetector
from bevstack.synthetic import PRESETS
from bevstack.tables.reader import Tables
from tests.small_world import CONFIG

TEMPORAL = TemporalConfig(alignment="reproject", num_fusion=1, inter_channels=16, norm="BN")
WITH_MEMORY = dataclasses.replace(CONFIG, name="with_memory", frames=(-2, -1, 0), temporal=TEMPORAL)
SEED = 5


class DemoRun(NamedTuple):
    out: Path
    text: str  # standard output


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with random weights of a small model with memory."""
    path = tmp_path_factory.mktemp("model") / "with_memory.safetensors"
    torch.manual_seed(0)
    save_model(path, build_model(WITH_MEMORY), WITH_MEMORY, {"step": "0"})
    return path


@pytest.fixture(scope="module")
def demo_run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """Run the demo with --quick; return its folder and output."""
    out = tmp_path_factory.mktemp("demo")
    arguments = ["demo", "--quick", "--weights", str(model), "--out", str(out), "--seed", str(SEED)]
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        assert main(arguments) == 0
    return DemoRun(out, stdout.getvalue())


def test_it_streams_one_test_scene_that_is_in_no_preset_world(demo_run: DemoRun) -> None:
    tables = Tables(demo_run.out / f"world_{SEED}_4", "v1.0-synth")
    assert len(tables.samples.token) == 4
    splits = json.loads((tables.root / "v1.0-synth" / "splits.json").read_text())
    assert splits == {"synth_test": ["scene-8001"]}
    manifest = json.loads((tables.root / "world.json").read_text())
    assert manifest["spec"]["seed"] == SEED
    assert manifest["spec"]["image_size"] == [225, 400]
    assert all(spec.seed != SEED for spec in PRESETS.values())
    assert demo.SEED not in {spec.seed for spec in PRESETS.values()}
    assert 20 <= demo.NUM_FRAMES <= 40
    assert "history of 2 frames" in demo_run.text
    assert "history reset" not in demo_run.text  # no frame broke the stream


def test_its_scores_are_those_of_the_written_results(demo_run: DemoRun) -> None:
    again = evaluate_results(
        demo_run.out / "results_nusc.json",
        demo_run.out / f"world_{SEED}_4",
        "v1.0-synth",
        "synth_test",
    )
    summary = json.loads((demo_run.out / "metrics_summary.json").read_text())
    assert summary["nd_score"] == again.nds and summary["mean_ap"] == again.mean_average_precision
    assert f"{again.nds:.4f}" in demo_run.text
    untracked = evaluate_results(
        demo_run.out / "results_untracked.json",
        demo_run.out / f"world_{SEED}_4",
        "v1.0-synth",
        "synth_test",
    )
    assert re.search(rf"streamed +{untracked.nds:.4f}", demo_run.text)
    assert re.search(rf"tracked +{again.nds:.4f}", demo_run.text)
    results = json.loads((demo_run.out / "results_nusc.json").read_text())["results"]
    assert len(results) == 4 and any(results.values())


def test_its_results_are_those_of_a_tracked_stream(demo_run: DemoRun, model: Path) -> None:
    detector = TrackedDetector(load(model))
    data = NuScenesDataset(
        demo_run.out / f"world_{SEED}_4",
        "v1.0-synth",
        split="synth_test",
        class_names=CONFIG.class_names,
    )
    predict_dataset(detector, data, demo_run.out / "again.json")
    tracked = json.loads((demo_run.out / "results_nusc.json").read_text())["results"]
    again = json.loads((demo_run.out / "again.json").read_text())["results"]
    assert tracked == again
    untracked = json.loads((demo_run.out / "results_untracked.json").read_text())["results"]
    assert untracked.keys() == tracked.keys() and untracked != tracked


@pytest.mark.parametrize("name", demo.ANIMATIONS)
def test_its_animations_have_a_frame_for_every_sample(demo_run: DemoRun, name: str) -> None:
    with Image.open(demo_run.out / name) as animation:
        assert animation.n_frames == 4 and animation.info["loop"] == 0
        assert 900 <= animation.width <= 1400
        durations = []
        for index in range(animation.n_frames):
            animation.seek(index)
            animation.load()
            durations.append(animation.info["duration"])
        assert durations == [250] * 4
    limit = 500_000 if name.endswith(".gif") else 160_000
    assert (demo_run.out / name).stat().st_size < 4 * limit
    assert str(demo_run.out / name) in demo_run.text


def test_its_stills_show_six_cameras_and_two_views_from_above(demo_run: DemoRun) -> None:
    stills = sorted((demo_run.out / "stills").iterdir())
    assert [path.name for path in stills] == [f"scene-8001_{index:03d}.png" for index in range(4)]
    for path in stills:
        height, width = cv2.imread(str(path)).shape[:2]
        # 2 rows of 3 cameras, and below them two square views from above
        assert width > 3 * 560 and height > 2 * 315 + width / 2 - 20
    assert f"still: {stills[0]}" in demo_run.text


def test_its_pictures_show_map_path_and_tracks(
    demo_run: DemoRun, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Draw again from the demo's own steps, and look at what is drawn."""
    from bevstack.runtime import pictures
    from bevstack.runtime.scene_stream import stream_scene
    from bevstack.training.progress_bar import make_console

    seen: list[dict[str, Any]] = []

    def record(*arguments: object, **given: Any) -> np.ndarray:
        seen.append(given)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(pictures, "draw_frame", record)
    detector = load(model)
    data = NuScenesDataset(
        demo_run.out / f"world_{SEED}_4",
        "v1.0-synth",
        split="synth_test",
        class_names=CONFIG.class_names,
    )
    steps = list(stream_scene(detector, data, data.scene_names[0]))
    tracked, identities = demo._track(steps, detector, make_console())
    demo._draw(tracked, identities, data, tmp_path, make_console())
    assert len(seen) == 8  # 4 frames of the animations, 4 stills
    for number, given in enumerate(seen[:4]):
        ground, tracks = given["surroundings"], given["identities"]
        assert ground.drivable and ground.lanes and len(ground.trail) == number + 1
        assert len(tracks) == len(tracked[number].detections) == len(set(tracks.tolist()))
    first, last = (set(seen[k]["identities"].tolist()) for k in (0, 3))
    assert first & last  # an object keeps its number


def test_it_prints_the_time_of_a_frame_and_the_limits_of_the_scores(demo_run: DemoRun) -> None:
    assert re.search(r"time per frame: median \d+ ms \(first frame: \d+ ms\)", demo_run.text)
    assert "not comparable with published nuScenes figures" in demo_run.text
    assert "One scene with" in demo_run.text and "is little data" in demo_run.text


def test_without_packaged_weights_it_ends_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(shipped, "packaged_weights", list)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "make train-demo" in error and "tiny_cpu_t4" in error
    assert not (tmp_path / "out").exists()


def test_a_seed_of_the_preset_worlds_is_refused(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["demo", "--weights", str(model), "--seed", "0", "--out", str(tmp_path)]) == 2
    assert (
        "seed must differ from the seeds of `bevstack make-world --preset`"
        in capsys.readouterr().err
    )
