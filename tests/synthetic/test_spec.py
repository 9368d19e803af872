"""Error messages of impossible worlds, and scene names."""

import re

import pytest

from bevstack.synthetic import WorldSpec
from bevstack.synthetic.spec import CAN_BUS_BLACKLIST


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": (300, 400)}, r"image_size must be \(height, width\) of 16:9 .*; got \(300"),
        ({"image_size": (9, 16)}, r"image_size must be at least \(32, 32\); got \(9, 16\)"),
        ({"rig": "n001"}, r"rig must be 'n015', 'n008' or 'mix'; got 'n001'"),
        ({"camera_yaw_deg": 200.0}, r"camera_yaw_deg must be within \+-180 degrees; got 200\.0"),
        ({"supersampling": 0}, r"supersampling must be 1 to 4; got 0"),
        ({"jpeg_quality": 101}, r"jpeg_quality must be 1 to 100; got 101"),
        ({"lidar_azimuths": 3}, r"lidar_azimuths must be 64 to 4096; got 3"),
        ({"samples_per_scene": 0}, r"samples_per_scene must be 1 to 400; got 0"),
        ({"processes": 0}, r"processes must be 1 to 256; got 0"),
        ({"seed": -1}, r"seed must be 0 to .*; got -1"),
        ({"train_scenes": 3901}, r"train_scenes must be 0 to 3900; got 3901"),
        ({"val_scenes": 1901}, r"val_scenes must be 0 to 1900; got 1901"),
        ({"test_scenes": -1}, r"test_scenes must be 0 to 1900; got -1"),
        (
            {"train_scenes": 0, "val_scenes": 0},
            r"train_scenes, val_scenes and test_scenes must be one scene or more; got \(0, 0, 0\)",
        ),
        ({"weather": "snow"}, r"weather must be 'mix' or one of sun, .*; got 'snow'"),
        ({"version": "v1.0-trainval"}, r"version must be 'v1.0-mini' or .*; got 'v1.0-trainval'"),
        ({"version": "v1.0-mini"}, r"must be 8, 2 and 0 .*; got \(20, 5, 0\)"),
    ],
)
def test_impossible_worlds_are_refused_with_the_name_of_the_field(fields, message):
    with pytest.raises(ValueError, match=rf"^WorldSpec\..*{message}"):
        WorldSpec(**fields)


def test_splits_are_disjoint_and_no_name_is_a_real_one():
    splits = WorldSpec(train_scenes=3900, val_scenes=1900, test_scenes=1900).split_scenes
    assert [(k, len(v)) for k, v in splits.items()] == [
        ("train", 3900),
        ("val", 1900),
        ("test", 1900),
    ]
    names = [name for scenes in splits.values() for name in scenes]
    numbers = [int(name[-4:]) for name in names]
    assert all(re.fullmatch(r"scene-\d{4}", name) for name in names)
    assert len(set(numbers)) == 7700 and min(numbers) > 1110
    mini = WorldSpec(version="v1.0-mini", train_scenes=8, val_scenes=2).split_scenes
    assert list(mini) == ["train", "val"]
    assert not {int(name[-4:]) for scenes in mini.values() for name in scenes} & CAN_BUS_BLACKLIST


def test_a_world_may_have_test_scenes_only():
    splits = WorldSpec(train_scenes=0, val_scenes=0, test_scenes=2).split_scenes
    assert splits == {"test": ("scene-8001", "scene-8002")}


def test_split_of_a_scene_is_found_and_an_unknown_scene_is_refused():
    spec = WorldSpec(train_scenes=3, val_scenes=2, test_scenes=2)
    assert spec.split_of("scene-2003") == ("train", 2)
    assert spec.split_of("scene-8001") == ("test", 0)
    with pytest.raises(ValueError, match="name must be a scene of this world; got 'scene-2004'"):
        spec.split_of("scene-2004")


def test_number_of_processes_does_not_distinguish_worlds():
    assert WorldSpec(processes=2) == WorldSpec() and WorldSpec(seed=1) != WorldSpec()
    assert "processes" not in WorldSpec().to_json()


def test_extra_yaw_distinguishes_worlds_and_is_written_only_if_not_zero():
    turned = WorldSpec(camera_yaw_deg=2.0)
    assert turned != WorldSpec() and turned.to_json()["camera_yaw_deg"] == 2.0
    assert "camera_yaw_deg" not in WorldSpec().to_json()
