"""The demo with a small untrained model: what it writes and says; it needs no training to run."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import NamedTuple

import cv2
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
from bevstack.runtime.detector import load
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.tracked import TrackedDetector
from bevstack.synthetic import PRESETS
from bevstack.tables.reader import Tables
from tests.small_world import CONFIG

TEMPORAL = TemporalConfig(alignment="reproject", num_fusion=1, inter_channels=16, norm="BN")
WITH_MEMORY = dataclasses.replace(CONFIG, name="little", frames=(-2, -1, 0), temporal=TEMPORAL)
SEED = 5


class Shown(NamedTuple):
    out: Path
    said: str


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small model with memory."""
    path = tmp_path_factory.mktemp("model") / "little.safetensors"
    torch.manual_seed(0)
    save_model(path, build_model(WITH_MEMORY), WITH_MEMORY, {"step": "0"})
    return path


@pytest.fixture(scope="module")
def shown(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """One quick run of the demo, and all it printed."""
    out = tmp_path_factory.mktemp("demo")
    arguments = ["demo", "--quick", "--model", str(model), "--out", str(out), "--seed", str(SEED)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(arguments) == 0
    return Shown(out, said.getvalue())


def test_it_streams_one_scene_of_the_test_family_that_no_preset_world_has(shown: Shown) -> None:
    tables = Tables(shown.out / f"world_{SEED}_4", "v1.0-synth")
    assert len(tables.samples.token) == 4
    splits = json.loads((tables.root / "v1.0-synth" / "splits.json").read_text())
    assert splits == {"synth_test": ["scene-8001"]}
    manifest = json.loads((tables.root / "world.json").read_text())
    assert manifest["spec"]["seed"] == SEED
    assert manifest["spec"]["image_size"] == [225, 400]
    assert all(spec.seed != SEED for spec in PRESETS.values())
    assert demo.SEED not in {spec.seed for spec in PRESETS.values()}
    assert 20 <= demo.NUM_FRAMES <= 40
    assert "history of 2 frames" in shown.said
    assert "history started anew" not in shown.said  # the stream held from frame to frame


def test_its_scores_are_those_of_the_results_it_leaves(shown: Shown) -> None:
    again = evaluate_results(
        shown.out / "results_nusc.json", shown.out / f"world_{SEED}_4", "v1.0-synth", "synth_test"
    )
    summary = json.loads((shown.out / "metrics_summary.json").read_text())
    assert summary["nd_score"] == again.nds and summary["mean_ap"] == again.mean_average_precision
    assert f"{again.nds:.4f}" in shown.said
    alone = evaluate_results(
        shown.out / "results_untracked.json",
        shown.out / f"world_{SEED}_4",
        "v1.0-synth",
        "synth_test",
    )
    assert re.search(rf"streamed +{alone.nds:.4f}", shown.said)
    assert re.search(rf"tracked +{again.nds:.4f}", shown.said)
    results = json.loads((shown.out / "results_nusc.json").read_text())["results"]
    assert len(results) == 4 and any(results.values())


def test_its_results_are_those_of_a_tracked_stream(shown: Shown, model: Path) -> None:
    detector = TrackedDetector(load(model))
    data = NuScenesDataset(
        shown.out / f"world_{SEED}_4",
        "v1.0-synth",
        split="synth_test",
        class_names=CONFIG.class_names,
    )
    predict_dataset(detector, data, shown.out / "again.json")
    left = json.loads((shown.out / "results_nusc.json").read_text())["results"]
    again = json.loads((shown.out / "again.json").read_text())["results"]
    assert left == again
    alone = json.loads((shown.out / "results_untracked.json").read_text())["results"]
    assert alone.keys() == left.keys() and alone != left


def test_its_animation_has_a_frame_for_every_sample(shown: Shown) -> None:
    with Image.open(shown.out / "demo.gif") as film:
        assert film.n_frames == 4
        assert 1000 <= film.width <= 1400
        durations = []
        for place in range(film.n_frames):
            film.seek(place)
            durations.append(film.info["duration"])
        assert durations == [250] * 4
    assert (shown.out / "demo.gif").stat().st_size < 4 * 500_000  # 15 MB for thirty


def test_its_stills_show_six_cameras_and_the_view_from_above(shown: Shown) -> None:
    stills = sorted((shown.out / "stills").iterdir())
    assert [path.name for path in stills] == [f"scene-8001_{place:03d}.png" for place in range(4)]
    for path in stills:
        height, width = cv2.imread(str(path)).shape[:2]
        assert width > 3 * 560 + 400 and height > 2 * 315  # three tiles of two rows, and a view
    assert f"still: {stills[0]}" in shown.said


def test_it_says_how_long_a_frame_takes_and_what_the_scores_are_not(shown: Shown) -> None:
    assert re.search(r"time a frame: median \d+ ms \(the first \d+ ms\)", shown.said)
    assert "not comparable with published nuScenes figures" in shown.said
    assert "One scene with" in shown.said and "is little" in shown.said
    assert str(shown.out / "demo.gif") in shown.said


def test_without_packaged_weights_it_says_so_and_names_the_way_out(
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
    assert main(["demo", "--model", str(model), "--seed", "0", "--out", str(tmp_path)]) == 2
    assert "seed must be another than that of the worlds" in capsys.readouterr().err
