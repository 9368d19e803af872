"""Refused worlds by message, and scene names that no tool refuses."""

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
        ({"supersampling": 0}, r"supersampling must be 1 to 4; got 0"),
        ({"jpeg_quality": 101}, r"jpeg_quality must be 1 to 100; got 101"),
        ({"lidar_azimuths": 3}, r"lidar_azimuths must be 64 to 4096; got 3"),
        ({"samples_per_scene": 0}, r"samples_per_scene must be 1 to 400; got 0"),
        ({"processes": 0}, r"processes must be 1 to 256; got 0"),
        ({"seed": -1}, r"seed must be 0 to .*; got -1"),
        ({"val_scenes": 0}, r"must be 1 to 3900 each; got \(20, 0\)"),
        ({"version": "v1.0-trainval"}, r"version must be 'v1.0-mini' or .*; got 'v1.0-trainval'"),
        ({"version": "v1.0-mini"}, r"must be 8 and 2 .*; got \(20, 5\)"),
    ],
)
def test_impossible_worlds_are_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=rf"^WorldSpec\..*{message}"):
        WorldSpec(**fields)


def test_scene_names_are_disjoint_and_none_is_a_real_one():
    train, val = WorldSpec(train_scenes=3900, val_scenes=3900).scene_names
    numbers = [int(name[-4:]) for name in train + val]
    assert all(re.fullmatch(r"scene-\d{4}", name) for name in train + val)
    assert len(set(numbers)) == 7800 and min(numbers) > 1110
    mini = WorldSpec(version="v1.0-mini", train_scenes=8, val_scenes=2).scene_names
    assert not {int(name[-4:]) for name in mini[0] + mini[1]} & CAN_BUS_BLACKLIST


def test_processes_are_no_part_of_what_a_world_is():
    assert WorldSpec(processes=2) == WorldSpec() and WorldSpec(seed=1) != WorldSpec()
    assert "processes" not in WorldSpec().to_json()
