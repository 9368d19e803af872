"""No configuration, also from a stranger's weights file, may ask for endless memory."""

import dataclasses
import json
import typing

import pytest

from bevstack.config import (
    Config,
    InternImageConfig,
    ResNetConfig,
    config_from_json,
    config_to_json,
    load_config,
    packaged_configs,
)
from bevstack.config.detection2d import Detection2DConfig
from bevstack.config.dino import DinoDetectorConfig
from bevstack.config.health import HealthConfig
from bevstack.config.limits import LIMITS, MAX_VALUES
from bevstack.config.mask_segmentation import MaskSegmentationConfig
from bevstack.config.segmentation import SegmentationConfig
from bevstack.config.serialization import section_types
from bevstack.config.tracking import TrackingConfig
from bevstack.models.build import build_model, load_model
from bevstack.models.weights import write_safetensors

WHOLE = load_config("tiny_cpu_t4")
FIELDS = [
    (kind, field.name, str(typing.get_type_hints(kind)[field.name]))
    for kind in (
        *section_types(Config),
        *section_types(Detection2DConfig),
        *section_types(DinoDetectorConfig),
        *section_types(SegmentationConfig),
        *section_types(MaskSegmentationConfig),
        TrackingConfig,
        HealthConfig,
    )
    for field in dataclasses.fields(kind)
]


def paths(values, path=()):
    """Yield the path of every number in a configuration's JSON, and of a number in every list."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if isinstance(value, (dict, list)):
            yield from paths(value, (*path, key))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield (*path, key)


def changed(path, number):
    """Return the JSON of ``WHOLE`` with one number replaced."""
    values = json.loads(config_to_json(WHOLE))
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = number
    return json.dumps(values)


SIZES = [
    path
    for path in paths(json.loads(config_to_json(WHOLE)))
    if path != ("training", "seed")  # any number of 63 bits
    and any(isinstance(p, str) and p in limits for limits in LIMITS.values() for p in path[:2])
]


def test_every_field_of_whole_numbers_has_a_limit():
    limited = {name for limits in LIMITS.values() for name in limits}
    whole = {
        name
        for kind, name, hint in FIELDS
        if ("int" in hint.replace("InternImage", "") or hint == "int") and "Config" not in hint
    }
    assert whole - limited == set()
    assert len(SIZES) > 60


@pytest.mark.parametrize("path", SIZES, ids=lambda path: ".".join(map(str, path)))
def test_every_size_of_endless_memory_is_refused_by_field(path):
    for number in (2**31, 2**40, 10**400, -(2**31)):
        with pytest.raises(ValueError) as caught:
            config_from_json(changed(path, number))
        name = ".".join(key for key in path if isinstance(key, str))
        assert name in str(caught.value) and len(str(caught.value)) < 700


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_not_finite_are_refused(text):
    path = ("loss", "class_weight")
    with pytest.raises(ValueError, match=r"loss\.class_weight must be finite"):
        config_from_json(changed(path, 123.5).replace("123.5", text))


def test_long_lists_are_refused():
    for fields in ({"frames": list(range(MAX_VALUES + 1))}, {"class_names": ["a"] * 10**5}):
        with pytest.raises(ValueError, match=r"must hold at most 1024 values"):
            config_from_json(json.dumps({"name": "x", **fields}))
    with pytest.raises(ValueError, match=r"backbone\.depths must be .* of 1 to 8 stages"):
        InternImageConfig(depths=(1,) * 9, groups=(1,) * 9, channels=2)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a":' * 10**5, '{"name": ' + "9" * 5000 + "}"])
def test_deep_json_and_endless_numbers_are_one_sentence(text):
    with pytest.raises(ValueError, match="configuration must be JSON") as caught:
        config_from_json(text)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_a_weights_file_with_such_a_configuration_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    text = changed(("backbone", "depths", 2), 2**31)
    metadata = {"format": "bevstack-model-1", "config": text}
    write_safetensors(path, build_model(WHOLE).state_dict(), metadata)
    with pytest.raises(ValueError, match=r"backbone\.depths must be at most 256"):
        load_model(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: InternImageConfig(depths=(4, 4, "18", 4)),
            r"depths must hold values that must be",
        ),
        (lambda: InternImageConfig(channels=64.0), r"backbone\.channels must be a whole number"),
        (lambda: InternImageConfig(depths=4), r"backbone\.depths must be a tuple; got 4"),
        (lambda: InternImageConfig(post_norm="false"), r"post_norm must be True or False"),
        (lambda: InternImageConfig(layer_scale="1"), r"layer_scale must be a number or be None"),
        (lambda: ResNetConfig(base_channels=True), r"base_channels must be a whole number"),
        (lambda: Config(name="x", grid={}), r"grid must be BEVGrid; got \{\}"),
        (lambda: TrackingConfig(reach_m=float("nan")), r"tracking\.reach_m must be finite"),
        (lambda: HealthConfig(width_px=0), r"health\.width_px must be positive"),
        (lambda: HealthConfig(covered_share=1.5), r"health\.covered_share must be at most 1"),
        (lambda: HealthConfig(motion_pairs=10**6), r"health\.motion_pairs must be at most"),
        (lambda: HealthConfig(black_level=-1.0), r"health\.black_level must be finite and not"),
    ],
)
def test_values_of_another_kind_are_refused_by_field(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", packaged_configs())
def test_packaged_configurations_are_far_within_the_limits(name):
    values = json.loads(config_to_json(load_config(name)))
    for section, limits in LIMITS.items():
        inner = values.get(section) if section else values
        for field, limit in limits.items() if isinstance(inner, dict) else ():
            given = inner.get(field)
            numbers = given if isinstance(given, list) else [given]
            if limit < 2**63 - 1:
                assert all(2 * abs(n) <= limit for n in numbers if n is not None), (section, field)
