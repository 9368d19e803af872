"""Lenses of cameras, from the fields of distortion in ``calibrated_sensor.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bevstack.geometry.lenses import LENS_MODELS, Lens
from bevstack.tables.lens_fields import COEFFICIENT_FIELDS, MODEL_FIELD

_MODEL_BY_COUNT = MappingProxyType(
    {count: model for model in ("plumb_bob", "rational_polynomial") for count in LENS_MODELS[model]}
)
_REMEDY = "undistort the images beforehand and leave the distortion out"


def lens_from_text(
    text: str,
    where: str,
) -> Lens | None:
    """Return the lens of a camera, or None for an image without distortion.

    Args:
        text: the fields as joined by ``joined_distortion``.
        where: name of the camera in messages.

    Raises:
        ValueError: the model is unknown or contradicts the number of coefficients, a coefficient is
            not finite, or two fields differ.
    """
    if not text:
        return None
    *values, model = json.loads(text)
    given = [_model_and_coefficients(value) for value in values if value is not None]
    if any(other != given[0] for other in given):
        raise ValueError(
            f"{where}: {' and '.join(COEFFICIENT_FIELDS)} must be equal where several are given; "
            f"got {values}: leave one of them"
        )
    own_model, coefficients = given[0] if given else (None, ())
    if model and own_model and model != own_model:
        raise ValueError(f"{where}: lens model must be one; got {own_model!r} and {model!r}")
    name = own_model or model or _MODEL_BY_COUNT.get(len(coefficients), "")
    if name and name not in LENS_MODELS:
        raise ValueError(
            f"{where}: lens model must be one of {', '.join(LENS_MODELS)}; got {name!r}: {_REMEDY}"
        )
    if not any(coefficients) and name != "equidistant":
        return None
    if not name:
        raise ValueError(
            f"{where}: lens without {MODEL_FIELD} must have one of "
            f"{', '.join(map(str, sorted(_MODEL_BY_COUNT)))} coefficients; got "
            f"{len(coefficients)}: name one of {', '.join(LENS_MODELS)}, or {_REMEDY}"
        )
    return Lens(name, tuple(coefficients), where)


def _model_and_coefficients(value: Any) -> tuple[str | None, tuple[float, ...]]:
    if isinstance(value, Mapping):
        return value["model"], tuple(value["coefficients"])
    return None, tuple(value)
