"""Conversion of configurations to JSON and back, and refusal of contradictions."""

import dataclasses
import json

import pytest

from bevstack.config import (
    BEVEncoderConfig,
    BEVGrid,
    Config,
    DecoderConfig,
    FPNConfig,
    PerspectiveConfig,
    ProposalConfig,
    ResNetConfig,
    TemporalConfig,
    TrainingConfig,
    config_from_json,
    config_to_json,
    first_differences,
    load_config,
    packaged_configs,
)


@pytest.mark.parametrize("name", packaged_configs())
def test_every_packaged_configuration_survives_json(name):
    config = load_config(name)
    assert config.name == name
    assert config_from_json(config_to_json(config)) == config


def test_tuples_and_nested_sections_come_back_typed():
    config = Config(name="x", grid=BEVGrid(shape=(7, 9)), fpn=FPNConfig(in_stages=(0, 3)))
    back = config_from_json(config_to_json(config))
    assert back.grid.shape == (7, 9)
    assert back == config


def test_missing_fields_take_their_defaults():
    assert config_from_json('{"name": "x"}') == Config(name="x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "grids": {}}, "no field 'grids'; did you mean 'grid'"),
        ({"name": "x", "training": {"learning_rat": 1.0}}, "did you mean 'learning_rate'"),
        ({"name": "x", "qqqq": 1}, "known fields: name"),
        ({"name": 3}, "name must be str; got 3"),
        ({"name": "x", "grid": {"shape": [1, 2, 3]}}, r"grid.shape must hold 2 values"),
        ({"name": "x", "training": {"num_steps": 1.5}}, "training.num_steps must be int"),
        ({"name": "x", "training": {"num_steps": True}}, "training.num_steps must be int"),
        ([], "configuration must be a JSON object"),
        ({}, "configuration must have the field 'name'; got none"),
        (
            {"name": "x", "backbone": {"kind": ["ResNet"]}},
            r"backbone.kind must be one of .*got \['",
        ),
        ({"name": "x", "grid": {"shape": [10**18, 10**18, [[[[[1]]]]]]}}, "grid.shape must hold 2"),
    ],
)
def test_wrong_json_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        config_from_json(json.dumps(values))


def test_text_that_is_not_json_is_refused():
    for text in ("{", "[" * 100_000, '{"name": 1, "name": 2}', "9" * 5000):
        with pytest.raises(ValueError, match=r"^configuration must be JSON; got [^\n]*$"):
            config_from_json(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BEVEncoderConfig(cross_points=6), "multiple of num_heights = 4; got 6"),
        (lambda: DecoderConfig(dropout=1.0), r"decoder.dropout must lie in \[0, 1\)"),
        (lambda: DecoderConfig(nms_iou=1.5), r"decoder.nms_iou must lie in \[0, 1\] or be None"),
        (lambda: TrainingConfig(schedule="poly"), "training.schedule must be one of"),
        (lambda: TrainingConfig(sampling="cbgs"), "training.sampling must be one of"),
        (lambda: Config(name="x", fpn=FPNConfig(channels=36)), "must divide fpn.channels = 36"),
        (lambda: FPNConfig(num_outputs=2), "fpn.num_outputs must be >= 3"),
        (lambda: Config(name="x", fpn=FPNConfig(in_stages=(3, 4))), "fpn.in_stages must be among"),
        (lambda: Config(name=""), "name must not be empty"),
    ],
)
def test_contradictions_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_first_differences_name_paths_and_values():
    one, two = Config(name="x"), Config(name="x", grid=BEVGrid(shape=(50, 50)))
    assert first_differences(one, two) == ["grid.shape: (200, 200) != (50, 50)"]
    assert first_differences(one, one) == []


def test_a_configuration_file_is_loaded_by_path(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from bevstack.config import Config\nCONFIG = Config(name='mine')\n")
    assert load_config(path).name == "mine"


def test_an_unknown_name_raises_and_names_the_nearest():
    with pytest.raises(FileNotFoundError, match="did you mean 'tiny_cpu'"):
        load_config("tiny_cpuu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "must define CONFIG"),
        (
            "from bevstack.config import *\nCONFIG = Config(name='a', fpn=FPNConfig(chanels=4))",
            "FPNConfig has no field 'chanels'; did you mean 'channels'",
        ),
    ],
)
def test_a_file_without_a_good_config_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(path)


RESNET = Config(
    name="r",
    backbone=ResNetConfig(depth=101),
    frames=(-1, 0),
    temporal=TemporalConfig(alignment="warp"),
    fpn=FPNConfig(num_outputs=5),
    encoder=BEVEncoderConfig(num_levels=4),
    perspective=PerspectiveConfig(),
    proposals=ProposalConfig(),
)


def test_a_section_of_several_classes_keeps_its_class():
    back = config_from_json(config_to_json(RESNET))
    assert back == RESNET
    assert isinstance(back.backbone, ResNetConfig)
    assert '"kind": "ResNetConfig"' in config_to_json(RESNET)
    # Files of versions with one class of backbone name no class: they get the first one.
    values = json.loads(config_to_json(Config(name="x")))
    del values["backbone"]["kind"]
    assert config_from_json(json.dumps(values)) == Config(name="x")


def test_an_unknown_kind_is_refused():
    values = {"name": "x", "backbone": {"kind": "VoVNet"}}
    with pytest.raises(ValueError, match=r"backbone.kind must be one of .*; got 'VoVNet'"):
        config_from_json(json.dumps(values))


def test_sections_of_different_kinds_differ_by_kind_first():
    first = first_differences(Config(name="x"), Config(name="x", backbone=ResNetConfig()), limit=1)
    assert first == ["backbone.kind: 'InternImageConfig' != 'ResNetConfig'"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": (-1,)}, "frames must be in ascending order and include 0"),
        ({"frames": (0, -1)}, "frames must be in ascending order and include 0"),
        ({"temporal": None}, "temporal must be given for several frames"),
        ({"frames": (0,)}, "temporal must be None for frames"),
        ({"perspective": None}, "proposals must be None without perspective"),
        (
            {"fpn": FPNConfig(num_outputs=4)},
            "fpn.num_outputs must be 5, one for each of perspective.strides",
        ),
        ({"fpn": FPNConfig(num_outputs=5, in_stages=(0, 1, 2))}, "strides must equal those of the"),
        ({"class_names": ("car",)}, "canonical_size_m must hold one size for each of the 1"),
        ({"encoder": BEVEncoderConfig(num_levels=6)}, "num_levels must be at most"),
    ],
)
def test_contradictions_between_sections_raise(change, message):
    backbone = {"backbone": ResNetConfig(out_indices=(0, 1, 2, 3))}
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RESNET, **backbone, **change)
