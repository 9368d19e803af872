"""Scores of damaged cameras with and without a mask, on a small world."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import masking, run
from bevstack.types import Frame
from tests.small_world import SPEC, dataset, small_world


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory)


def test_half_of_the_cameras_of_each_scene_are_damaged_or_masked(root: Path) -> None:
    samples = dataset(root, "synth_val")
    chosen = masking.choose_cameras(samples)
    assert len(chosen) == len(samples.scene_names) == 2
    assert chosen == masking.choose_cameras(samples)
    changes: list[masking.Change] = []

    def record(change: masking.Change) -> dict[str, float]:
        changes.append(change)
        return {"mAP": 0.0, "NDS": 0.0}

    masking.damage_half(record, chosen)
    mask, black = changes[:2]
    frame = samples.frame(0)
    rows = chosen[frame.scene_token]
    assert len(rows) == 3
    masked, damaged = mask(0, frame), black(0, frame)
    assert [i for i, used in enumerate(masked.camera_mask.tolist()) if not used] == rows
    assert damaged.camera_mask.all()
    assert [i for i in range(6) if not np.array_equal(picture(damaged, i), picture(frame, i))] == (
        rows
    )
    assert all(picture(damaged, row).max() < 20 for row in rows)  # noise of 2 levels
    again = black(0, frame)
    assert all(np.array_equal(picture(again, i), picture(damaged, i)) for i in range(6))


def picture(frame: Frame, camera: int) -> np.ndarray:
    image = frame.images[camera]
    assert image is not None
    return image


def test_a_short_measurement_writes_both_scores_and_the_states(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masking, "FAULTS", {"over_exposed": (16.0,)})
    monkeypatch.setattr(masking, "CORRUPTED", ("Snow",))
    monkeypatch.setattr(masking, "LEVELS", ("easy",))
    path = tmp_path / "masking.json"
    where = ["--nuscenes", str(root), "--version", SPEC.version]
    monkeypatch.setattr(sys, "argv", ["run", "masking", *where, "--json", str(path)])
    run.main()
    result = json.loads(path.read_text())
    half = result["half_of_the_cameras"]
    assert result["samples"] == 6 and 0 < half["masked"]["mAP"] < 1
    assert half["masked"] != half["not_masked"]["over_exposed"]["16"]
    snow = result["all_cameras"]["Snow"]["easy"]
    assert sum(snow["states"].values()) == 6 * 6
