"""Appearance of objects in the training, validation and test scenes.

All scenes draw their models in the same way. Test scenes then change hue, brightness and
proportions to values that never occur in training. A detector that has memorised the paint and the
sizes of the training scenes scores lower there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from bevstack.synthetic.objects.vehicles import ObjectModel
from bevstack.synthetic.renderer.primitives import (
    G_BACK,
    G_FRONT,
    G_HOLE,
    G_HX,
    G_HY,
    G_HZ,
    G_SIDE,
    G_X,
    G_Y,
    G_Z,
    P_BLUE,
    P_BLUE2,
    P_RED,
    P_RED2,
    Pattern,
    Primitives,
)

# The colours of faces, lamps, tyres and safety vests carry a meaning, so they stay.
_KEEPS_PAINT = (Pattern.HEAD, Pattern.LAMP, Pattern.TYRE, Pattern.VEST, Pattern.MACHINE)
_PAINTED = ("vehicle.", "human.")
_KEEPS_ALL_PAINT = ("vehicle.construction", "human.pedestrian.construction_worker")
_GREY_AXIS = np.ones(3) / np.sqrt(3.0)


@dataclass(frozen=True)
class AppearanceSplit:
    """Change of size and paint that one split applies to its objects."""

    scale_spread: float = 0.0  # standard deviation of the factors on plan and on height
    scale_shift: float = 0.0  # mean of the factors minus 1
    hue_rad: tuple[float, float] = (0.0, 0.0)  # lower and upper limit of the hue's rotation

    def restyle(self, model: ObjectModel, rng: np.random.Generator) -> ObjectModel:
        """Return the model in this split's size and paint.

        A split without changes draws no random numbers.
        """
        if not self.scale_spread:
            return model
        plan_scale, height_scale = (
            1 + self.scale_shift + self.scale_spread * np.clip(rng.normal(size=2), -2, 2)
        )
        hue, gain = rng.uniform(*self.hue_rad), rng.uniform(0.75, 1.2)
        length, width, height = model.size_m
        size = (
            round(length * plan_scale, 3),
            round(width * plan_scale, 3),
            round(height * height_scale, 3),
        )
        parts = _scale(model.primitives, float(plan_scale), float(height_scale))
        if model.category.startswith(_PAINTED) and model.category not in _KEEPS_ALL_PAINT:
            parts = _repaint(parts, float(hue), float(gain))
        return replace(model, size_m=size, primitives=parts)


APPEARANCE_SPLITS: Mapping[str, AppearanceSplit] = MappingProxyType(
    {
        "train": AppearanceSplit(),
        "val": AppearanceSplit(),
        "test": AppearanceSplit(scale_spread=0.05, scale_shift=0.02, hue_rad=(0.7, 2.6)),
    }
)


def _scale(parts: Primitives, plan_scale: float, height_scale: float) -> Primitives:
    """Scale a model about its foot; x and y alike, so that rotated parts keep their shape."""
    geometry = parts.geometry.copy()
    geometry[:, [G_X, G_Y, G_HX, G_HY, G_HOLE]] *= plan_scale
    geometry[:, [G_Z, G_HZ]] *= height_scale
    geometry[:, [G_FRONT, G_BACK, G_SIDE]] *= plan_scale / height_scale
    return Primitives(geometry, parts.codes, parts.paint)


def _repaint(parts: Primitives, hue_rad: float, gain: float) -> Primitives:
    """Rotate colours about the grey axis and scale them; greys stay grey."""
    x, y, z = _GREY_AXIS
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotation = np.eye(3) + np.sin(hue_rad) * cross + (1 - np.cos(hue_rad)) * cross @ cross
    paint = parts.paint.copy()
    rows = ~np.isin(parts.codes[:, 1], [int(p) for p in _KEEPS_PAINT])
    for first, last in ((P_RED, P_BLUE), (P_RED2, P_BLUE2)):
        colours = paint[rows, first : last + 1].astype(np.float64)
        paint[rows, first : last + 1] = np.clip(gain * colours @ rotation.T, 0.02, 0.97)
    return Primitives(parts.geometry, parts.codes, paint)
