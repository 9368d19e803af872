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
            "sides_activation",
            "choice",
            "min_visibility",
        ),
    ),
)
# Values of a sub-section's fields that an old file does not give. A sub-section that is made of an
# old file's fields becomes None if all of them have these values.
MOVED_DEFAULTS = {"small_images": DD3D}
# Fields that a sub-section got after files were written with it.
ADDED_FIELDS = {"small_images": ("sides_activation", "choice", "min_visibility")}


def upgrade_fields(values: Any) -> Any:
    """Return a configuration's JSON values with every moved field in its present section.

    Fields of the sub-section that were added later take the values that were fixed before.

    Values that are no JSON object are returned unchanged; the reader refuses them.
    """
    if not isinstance(values, dict):
        return values
    result = dict(values)
    for section, subsection, fields in MOVED_FIELDS:
        old = result.get(section)
        if isinstance(old, dict) and subsection not in old and any(f in old for f in fields):
            result[section] = _move_fields(old, subsection, fields)
        elif isinstance(old, dict) and isinstance(old.get(subsection), dict):
            default = MOVED_DEFAULTS[subsection]
            known = {name: getattr(default, name) for name in ADDED_FIELDS[subsection]}
            result[section] = {**old, subsection: {**known, **old[subsection]}}
    return result


def _move_fields(
    section: dict[str, Any], subsection: str, fields: tuple[str, ...]
) -> dict[str, Any]:
    default = MOVED_DEFAULTS[subsection]
    moved = {name: section.get(name, getattr(default, name)) for name in fields}
    remaining = {name: value for name, value in section.items() if name not in fields}
    unchanged = all(moved[name] == getattr(default, name) for name in fields)
    return {**remaining, subsection: None if unchanged else moved}
