"""Lens distortion in ``calibrated_sensor.json``: optional fields that nuScenes does not have.

``camera_distortion`` (as in nuImages), ``distortion`` or ``distortion_coefficients`` is a list of
coefficients, in the order of OpenCV and ROS, or an object ``{"model": ..., "coefficients": [...]}``
as in a rig file. ``distortion_model`` names the model. Without a name, 4 and 5 coefficients are
"plumb_bob", and 8, 12 and 14 are "rational_polynomial". No field, null, an empty list, and zeros of
these two models mean an image without distortion.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bevstack.file_bytes import read_bytes
from bevstack.tables.fields import Field, JsonText

COEFFICIENT_FIELDS = ("camera_distortion", "distortion", "distortion_coefficients")
MODEL_FIELD = "distortion_model"
FIELDS = (*COEFFICIENT_FIELDS, MODEL_FIELD)

_ANY_DISTORTION = re.compile(rb'"(\w*(?:distort|dist_coef)\w*)"\s*:', re.IGNORECASE)


def lens_fields() -> dict[str, Field]:
    """Return the kinds of the fields, by name."""
    coefficients = JsonText(
        list[float] | dict[str, str | list[float]] | None,
        _is_distortion,
        requirement='be a list of numbers, {"model": name, "coefficients": list}, or null',
    )
    model = JsonText(
        str | None, lambda value: isinstance(value, str), requirement="be a text, or null"
    )
    return {**dict.fromkeys(COEFFICIENT_FIELDS, coefficients), MODEL_FIELD: model}


def check_field_names(path: Path) -> None:
    """Check that a table has no field of distortion under another name, which would be ignored.

    Raises:
        ValueError: it has one; the message names it.
    """
    data = read_bytes(path, "table", max_bytes=None)
    for name in sorted({match.decode() for match in _ANY_DISTORTION.findall(data)}):
        if name not in FIELDS:
            raise ValueError(
                f"distortion in {path} must be given as {', '.join(FIELDS)}; got the field "
                f"{name!r}: rename it"
            )


def joined_distortion(fields: Sequence[str]) -> str:
    """Join the texts of one row's fields, in the order of ``FIELDS``; "" if all are null."""
    return f"[{', '.join(text or 'null' for text in fields)}]" if any(fields) else ""


def _is_distortion(value: object) -> bool:
    if isinstance(value, dict):
        has_model = set(value) == {"model", "coefficients"} and isinstance(value["model"], str)
        return has_model and _are_numbers(value["coefficients"])
    return _are_numbers(value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(number, (int, float)) and not isinstance(number, bool) for number in value
    )
