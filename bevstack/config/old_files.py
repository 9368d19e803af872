"""Upgrade of configurations in files of earlier versions to the present fields."""

from __future__ import annotations

from typing import Any

from bevstack.config.perspective import DD3D

# Section, its new sub-section, and the fields that moved from the section into the sub-section.
MOVED_FIELDS = (
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
# Values of moved fields that an old file does not give. A sub-section whose fields all have these
# values becomes None.
MOVED_DEFAULTS = {"small_images": DD3D}


def upgrade_fields(values: Any) -> Any:
    """Return a configuration's JSON values with every moved field in its present section.

    Values that are no JSON object are returned unchanged; the reader refuses them.
    """
    if not isinstance(values, dict):
        return values
    result = dict(values)
    for section, subsection, fields in MOVED_FIELDS:
        old = result.get(section)
        if isinstance(old, dict) and subsection not in old and any(f in old for f in fields):
            result[section] = _move_fields(old, subsection, fields)
    return result


def _move_fields(
    section: dict[str, Any], subsection: str, fields: tuple[str, ...]
) -> dict[str, Any]:
    default = MOVED_DEFAULTS[subsection]
    moved = {name: section.get(name, getattr(default, name)) for name in fields}
    remaining = {name: value for name, value in section.items() if name not in fields}
    unchanged = all(moved[name] == getattr(default, name) for name in fields)
    return {**remaining, subsection: None if unchanged else moved}
