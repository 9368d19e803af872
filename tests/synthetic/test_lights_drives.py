"""Drives of the preset `lights_drives`: the front camera alone, and an ego that waits at red."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.sweeps import front_sweeps
from bevstack.synthetic import WorldSpec, make_world, preset
from bevstack.synthetic.population.rich_control import RichLight
from bevstack.synthetic.population.routes import place_on_route
from bevstack.synthetic.population.traffic import sample_tracks
from bevstack.synthetic.scene import Scene, build_scene
from bevstack.synthetic.spec import LOW_SUN_SHARE

FRONT_M = 3.6  # from the ego's origin to its front bumper
SMALL = replace(
    preset("lights_drives"),
    val_scenes=1,
    test_scenes=1,
    samples_per_scene=3,
    image_size=(180, 320),
    lidar_azimuths=64,
)


@pytest.fixture(scope="module")
def drives() -> list[Scene]:
    """Return the first eight test drives of the preset, not rendered."""
    spec = preset("lights_drives")
    return [build_scene(spec, name) for name in spec.split_scenes["test"][:8]]


@pytest.mark.parametrize("split", ["synth_val", "synth_test"])
def test_a_drive_has_the_front_camera_alone_at_twelve_hertz(tmp_path: Path, split: str) -> None:
    make_world(tmp_path / "world", SMALL)
    dataset = NuScenesDataset(tmp_path / "world", SMALL.version, split=split)
    assert dataset.frame(0).camera_names == ("CAM_FRONT",)
    sweeps = front_sweeps(dataset, range(3))
    times_us = [frame.timestamp_us for frame in sweeps.between(0, 1 << 62)]
    # Five images between two of the three key frames, 1/12 s apart.
    assert len(times_us) == 10
    np.testing.assert_allclose(np.diff(times_us[:5]), 1e6 / 12, atol=1)


def test_the_ego_never_enters_a_junction_at_red(drives: list[Scene]) -> None:
    """The lights of its lane and turn are not red when its front leaves the lane's end."""
    entered = 0
    for scene in drives:
        assert scene.lanes is not None
        graph, before = scene.lanes.graph, None
        for time_s in np.arange(0.0, 19.5, 0.1):
            x, y, yaw = sample_tracks(scene.ego.pose[None], float(time_s))[0]
            front = float(x + FRONT_M * np.cos(yaw)), float(y + FRONT_M * np.sin(yaw))
            piece = graph[place_on_route(graph, scene.lanes.route, *front).key]
            if before is not None and before.through is None and piece.through is not None:
                colors = {
                    lamp.color
                    for light in scene.controls
                    if isinstance(light, RichLight)
                    and light.junction == piece.through
                    and piece.lane in light.lanes
                    and piece.manoeuvres[0] in light.manoeuvres
                    for lamp in light.states.timeline(light.shape).state_at(round(time_s * 1e6))
                }
                entered += 1
                assert "red" not in colors, (scene.name, time_s)
            before = piece
    assert entered >= 4


def test_most_drives_wait_and_some_start_again(drives: list[Scene]) -> None:
    stands = [scene.ego.speed_mps[10:-10] < 0.1 for scene in drives]  # without lead-in and -out
    assert sum(stand.sum() >= 30 for stand in stands) >= 4  # for 3 s
    assert any(stand.any() and not stand[-1] for stand in stands)


def test_drives_are_left_out_of_the_manifest_of_other_worlds() -> None:
    assert "drives" not in WorldSpec().to_json() and "drives" not in preset("lights").to_json()
    assert preset("lights_drives").to_json()["drives"] is True


def test_the_world_for_training_has_one_camera_at_two_hertz(tmp_path: Path) -> None:
    spec = replace(
        preset("lights_training"), train_scenes=1, samples_per_scene=3, image_size=(180, 320)
    )
    make_world(tmp_path / "world", spec)
    dataset = NuScenesDataset(tmp_path / "world", spec.version, split="synth_train")
    assert len(dataset) == 3 and dataset.frame(0).camera_names == ("CAM_FRONT",)
    assert len(list((tmp_path / "world" / "samples" / "CAM_FRONT").iterdir())) == 3
    assert not (tmp_path / "world" / "sweeps").exists()


def test_the_world_for_training_shows_lights_before_a_low_sun() -> None:
    """Its share of scenes with glare is that of the specification; other worlds keep theirs."""
    spec = preset("lights_training")
    assert (spec.low_sun_share, preset("lights").low_sun_share) == (0.9, LOW_SUN_SHARE)
    names = spec.split_scenes["train"][:40]
    sunny = [light for name in names if (light := build_scene(spec, name).light).weather == "sun"]
    # 0.9 of about 14; with the world's usual 0.45, 10 or more have a probability below 0.03
    assert len(sunny) >= 12 and sum(light.glare > 0 for light in sunny) >= 10
    without = replace(spec, low_sun_share=0.0)
    assert not any(build_scene(without, name).light.glare for name in names[:12])


def test_new_fields_are_left_out_of_the_manifest_of_other_worlds() -> None:
    values = preset("lights").to_json()
    assert "front_alone" not in values and "low_sun_share" not in values
    own = preset("lights_training").to_json()
    assert own["front_alone"] is True and own["low_sun_share"] == 0.9
    with pytest.raises(ValueError, match="low_sun_share must be 0 to 1"):
        WorldSpec(low_sun_share=1.5)
