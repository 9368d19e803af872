"""Configurations in files of earlier versions, brought to the fields of today."""

from __future__ import annotations

from typing import Any

from bevstack.config.perspective import DD3D

# Section, the part of it that the fields have moved to, and the fields.
MOVED = (
    (
        "perspective",
        "small_images",
        (
            "ground_z_m",
            "attitude",
            "speed_activation",
            "min_extent",
            "full_weight_depth_m",
            "confidence_power",
        ),
    ),
)
# What a moved field meant where a file left it out; the part is none where all fields have it.
DEFAULTS = {"small_images": DD3D}


def upgraded(values: Any) -> Any:
    """Return a configuration's JSON values with every moved field in its place of today.

    Values of another form than an object are returned as they are: the reader refuses them.
    """
    if not isinstance(values, dict):
        return values
    result = dict(values)
    for section, part, fields in MOVED:
        found = result.get(section)
        if isinstance(found, dict) and part not in found and any(f in found for f in fields):
            result[section] = _moved(found, part, fields)
    return result


def _moved(section: dict[str, Any], part: str, fields: tuple[str, ...]) -> dict[str, Any]:
    default = DEFAULTS[part]
    given = {name: section.get(name, getattr(default, name)) for name in fields}
    rest = {name: value for name, value in section.items() if name not in fields}
    unchanged = all(given[name] == getattr(default, name) for name in fields)
    return {**rest, part: None if unchanged else given}
