"""Configurations in files of earlier versions keep their meaning."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bevstack.config import SmallImagePreset, config_from_json, config_to_json, load_config
from bevstack.config.old_files import MOVED_DEFAULTS, MOVED_FIELDS, upgrade_fields
from bevstack.models.weights import read_safetensors
from bevstack.runtime.shipped import packaged_weights, weights_path


def old_form(text: str) -> dict:
    """Return the JSON values as earlier versions wrote them, with moved fields in the section."""
    values = json.loads(text)
    for section, subsection, fields in MOVED_FIELDS:
        if values[section] is not None:
            moved = values[section].pop(subsection)
            for name in fields:
                default = getattr(MOVED_DEFAULTS[subsection], name)
                values[section][name] = default if moved is None else moved[name]
    return values


@pytest.mark.parametrize("name", ["tiny_cpu_t4", "tiny_cpu", "bevformerv2_r50_t1"])
def test_the_old_form_gives_the_same_configuration(name: str) -> None:
    config = load_config(name)
    old = old_form(config_to_json(config))
    assert config_from_json(json.dumps(old)) == config


def test_a_missing_old_field_gets_its_default() -> None:
    old = json.loads(config_to_json(load_config("bevformerv2_r50_t1")))
    del old["perspective"]["small_images"]
    old["perspective"]["min_extent"] = 1.25
    preset = config_from_json(json.dumps(old)).perspective.small_images
    assert preset.min_extent == 1.25
    assert preset.attitude == "quaternion" and preset.ground_z_m is None


def test_an_old_field_beside_the_new_one_is_refused_by_name() -> None:
    values = json.loads(config_to_json(load_config("tiny_cpu_t4")))
    values["perspective"]["attitude"] = "yaw"
    with pytest.raises(ValueError, match="attitude"):
        config_from_json(json.dumps(values))


@pytest.mark.parametrize("values", [None, 3, [], {"perspective": 5}, {"perspective": None}])
def test_values_that_are_no_configuration_are_returned_unchanged(values: object) -> None:
    assert upgrade_fields(values) == values


def test_the_packaged_weights_are_in_the_old_form_and_load() -> None:
    """Loading does not rewrite the file, so its digest stays."""
    assert "tiny_cpu_t4" in packaged_weights()
    _, metadata = read_safetensors(weights_path("tiny_cpu_t4"))
    stored = json.loads(metadata["config"])
    assert (
        stored["perspective"]["attitude"] == "yaw" and "small_images" not in stored["perspective"]
    )
    found = config_from_json(metadata["config"]).perspective
    assert found.small_images == replace(SmallImagePreset(), **BEFORE)
    assert replace(found, small_images=SmallImagePreset()) == load_config("tiny_cpu_t4").perspective


# What was fixed before the fields existed: the forms of DD3D.
BEFORE = {"sides_activation": "relu", "choice": "smallest", "min_visibility": 0}


def test_a_file_from_before_the_fields_of_sides_and_visibility_keeps_its_meaning() -> None:
    config = load_config("tiny_cpu_t4_brief")
    values = json.loads(config_to_json(config))
    for name in BEFORE:
        del values["perspective"]["small_images"][name]
    found = config_from_json(json.dumps(values)).perspective.small_images
    assert found == replace(config.perspective.small_images, **BEFORE)
    values["perspective"]["small_images"]["min_visibility"] = 3
    found = config_from_json(json.dumps(values)).perspective.small_images
    assert found.min_visibility == 3 and found.choice == "smallest"
