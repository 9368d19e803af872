"""How the looks of objects differ between the training, validation and test scenes.

The models are drawn alike everywhere; in the test scenes they are then dressed anew: other hues,
other brightness and other proportions than training ever shows, so that a detector that knows the
training scenes' paint and sizes by heart is found out.
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

# Faces, lamps, tyres and safety colours keep their meaning, and so their paint.
_KEEPS_PAINT = (Pattern.HEAD, Pattern.LAMP, Pattern.TYRE, Pattern.VEST, Pattern.MACHINE)
_PAINTED = ("vehicle.", "human.")
_KEEPS_ALL_PAINT = ("vehicle.construction", "human.pedestrian.construction_worker")
_GREY_AXIS = np.ones(3) / np.sqrt(3.0)


@dataclass(frozen=True)
class Family:
    """How one of the disjoint families of scenes of a world dresses its objects."""

    scale_spread: float = 0.0  # standard deviation of the factors on plan and on height
    scale_shift: float = 0.0  # their mean, less 1
    hue_rad: tuple[float, float] = (0.0, 0.0)  # turn of the hue, drawn between the two

    def dress(self, model: ObjectModel, rng: np.random.Generator) -> ObjectModel:
        """The model in this family's size and paint; draws nothing where nothing changes."""
        if not self.scale_spread:
            return model
        plan, tall = 1 + self.scale_shift + self.scale_spread * np.clip(rng.normal(size=2), -2, 2)
        hue, gain = rng.uniform(*self.hue_rad), rng.uniform(0.75, 1.2)
        length, width, height = model.size_m
        size = (round(length * plan, 3), round(width * plan, 3), round(height * tall, 3))
        parts = _scaled(model.primitives, float(plan), float(tall))
        if model.category.startswith(_PAINTED) and model.category not in _KEEPS_ALL_PAINT:
            parts = _repainted(parts, float(hue), float(gain))
        return replace(model, size_m=size, primitives=parts)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "train": Family(),
        "val": Family(),
        "test": Family(scale_spread=0.05, scale_shift=0.02, hue_rad=(0.7, 2.6)),
    }
)


def _scaled(parts: Primitives, plan: float, tall: float) -> Primitives:
    """Grows a model from its foot, alike along x and y, so that turned parts stay whole."""
    geometry = parts.geometry.copy()
    geometry[:, [G_X, G_Y, G_HX, G_HY, G_HOLE]] *= plan
    geometry[:, [G_Z, G_HZ]] *= tall
    geometry[:, [G_FRONT, G_BACK, G_SIDE]] *= plan / tall
    return Primitives(geometry, parts.codes, parts.paint)


def _repainted(parts: Primitives, hue_rad: float, gain: float) -> Primitives:
    """Turns colours about the grey axis; greys stay grey and become lighter or darker."""
    x, y, z = _GREY_AXIS
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    turn = np.eye(3) + np.sin(hue_rad) * cross + (1 - np.cos(hue_rad)) * cross @ cross
    paint = parts.paint.copy()
    rows = ~np.isin(parts.codes[:, 1], [int(p) for p in _KEEPS_PAINT])
    for first, last in ((P_RED, P_BLUE), (P_RED2, P_BLUE2)):
        colours = paint[rows, first : last + 1].astype(np.float64)
        paint[rows, first : last + 1] = np.clip(gain * colours @ turn.T, 0.02, 0.97)
    return Primitives(parts.geometry, parts.codes, paint)
