"""Fingerprints: of the frozen validation scenes, and of scenes that differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bevstack.synthetic import WorldSpec, preset
from bevstack.synthetic.reproducibility import (
    SceneFingerprint,
    check_scenes,
    fingerprint_scene,
    overall_digest,
    read_fingerprints,
    write_fingerprints,
)

FROZEN = Path(__file__).parents[2] / "data" / "benchmark_val.json"
SPEC = WorldSpec(seed=1, train_scenes=1, val_scenes=2, samples_per_scene=2, image_size=(90, 160))


def test_validation_scenes_of_the_benchmark_are_the_frozen_ones():
    spec = preset("benchmark")
    wanted, scenes = read_fingerprints(FROZEN)
    assert wanted == spec.to_json(), "after a change run `python data/make_world.py --freeze`"
    assert sorted(scenes) == sorted(spec.split_scenes["val"])
    assert check_scenes(spec, scenes, [spec.split_scenes["val"][0]]) == {}


def test_fingerprint_differs_for_another_scene_and_another_seed():
    one = fingerprint_scene(SPEC, "scene-6001")
    assert one.differences(fingerprint_scene(SPEC, "scene-6001")) == []
    for other in (
        fingerprint_scene(SPEC, "scene-6002"),
        fingerprint_scene(replace(SPEC, seed=2), "scene-6001"),
    ):
        assert len(one.differences(other)) == 2


def test_a_world_of_the_front_camera_alone_has_a_fingerprint():
    spec = replace(
        preset("lights_training"),
        train_scenes=1,
        val_scenes=0,
        test_scenes=0,
        samples_per_scene=1,
        image_size=(90, 160),
    )
    (scene,) = spec.split_scenes["train"]
    one = fingerprint_scene(spec, scene)
    assert one.differences(fingerprint_scene(spec, scene)) == []
    assert 6 * len(one.thumbnails) == len(fingerprint_scene(SPEC, "scene-6001").thumbnails)


def test_small_differences_of_grey_levels_are_tolerated_and_larger_ones_are_not():
    one = SceneFingerprint("a" * 64, (100, 20, 30))
    assert one.differences(SceneFingerprint("a" * 64, (101, 18, 30))) == []
    assert one.differences(SceneFingerprint("a" * 64, (104, 20, 30))) == [
        "pictures (by 4 grey levels)"
    ]
    assert one.differences(SceneFingerprint("b" * 64, (100, 20, 30))) == [
        "tables (aaaaaaaaaaaa against bbbbbbbbbbbb)"
    ]


def test_noise_far_below_the_rounding_does_not_change_the_digest(monkeypatch: pytest.MonkeyPatch):
    """Add noise of 1e-12 to every sine, as on a processor with another vector unit."""
    import numpy as np

    from bevstack.synthetic import reproducibility as fingerprint

    record = fingerprint.record_scene

    def record_with_noise(spec, name, root):
        recording = record(spec, name, root)
        rng = np.random.default_rng(0)
        for row in recording.rows["ego_pose"]:
            row["translation"] = [v + rng.normal(0, 1e-12) for v in row["translation"]]
            row["rotation"] = [v + rng.normal(0, 1e-12) for v in row["rotation"]]
        return recording

    plain = fingerprint_scene(SPEC, "scene-6001")
    monkeypatch.setattr(fingerprint, "record_scene", record_with_noise)
    assert fingerprint_scene(SPEC, "scene-6001") == plain


def test_fingerprints_survive_their_file(tmp_path: Path):
    scenes = {
        "scene-6002": SceneFingerprint("b" * 64, (1, 2)),
        "scene-6001": SceneFingerprint("a" * 64, (3, 4)),
    }
    write_fingerprints(tmp_path / "f.json", SPEC, scenes)
    spec, again = read_fingerprints(tmp_path / "f.json")
    assert spec == SPEC.to_json() and again == scenes
    assert overall_digest(again) == overall_digest(dict(sorted(scenes.items())))
    assert overall_digest(again) != overall_digest({**scenes, "scene-6003": scenes["scene-6001"]})
