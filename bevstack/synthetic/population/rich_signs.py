"""Signs and advertisements of the preset `lights`: near enough to each other to be read."""

from __future__ import annotations

import numpy as np

from bevstack.synthetic.population.population import Population
from bevstack.synthetic.population.rich_control import RichSign
from bevstack.synthetic.population.scenery import place_at
from bevstack.synthetic.population.traffic_control import (
    POLE,
    SignSpacing,
    main_lanes,
    place_signs,
)
from bevstack.synthetic.renderer.primitives import (
    C_SEMANTIC,
    P_SEED,
    Kind,
    Pattern,
    PrimitiveList,
)
from bevstack.vocabulary import (
    ROAD_SIGN,
    SEMANTIC_CLASSES,
    SIGN_MEANINGS,
    TRAFFIC_ELEMENT_ATTRIBUTES,
)

_SPACING = SignSpacing(low_m=1.9, first_m=(5.0, 25.0), gap_m=(14.0, 42.0))
_NAMES = SIGN_MEANINGS[1:]  # not "other"
_SHARES = (*(0.072,) * 9, 0.11, 0.242)  # stop, speed limit
_LIMITS_KMH = (20, 30, 40, 50, 60, 70, 80)
_GROUNDS = ((0.05, 0.05, 0.06), (0.9, 0.9, 0.88), (0.08, 0.12, 0.35), (0.35, 0.06, 0.08))
_LIT = ((1.0, 0.05, 0.04), (0.06, 0.95, 0.35), (1.0, 0.6, 0.04), (0.95, 0.95, 0.9))


def add_rich_signs(population: Population) -> list[RichSign]:
    """Add signs on poles at the kerb, for the outermost lane of each direction."""
    signs: list[RichSign] = []
    for forward in (True, False):
        if main_lanes(population, forward):
            signs += _add_signs(population, forward)
    return signs


def _draw_sign(rng: np.random.Generator) -> tuple[tuple[str, int], float]:
    """Draw the name, the number of a speed limit, and the width in metres."""
    name = str(rng.choice(_NAMES, p=_SHARES))
    limit = int(rng.choice(_LIMITS_KMH)) if name == "speed_limit" else 0
    return (name, limit), round(float(rng.uniform(0.75, 1.15)), 3)


def _add_signs(population: Population, forward: bool) -> list[RichSign]:
    return [
        RichSign(
            category=ROAD_SIGN,
            lane=plate.lane,
            centre_m=plate.centre_m,
            size_m=plate.size_m,
            yaw_rad=plate.yaw_rad,
            meaning=TRAFFIC_ELEMENT_ATTRIBUTES.index(name)
            if name in TRAFFIC_ELEMENT_ATTRIBUTES
            else 0,
            name=name,
            speed_limit_kmh=limit,
        )
        for (name, limit), plate in place_signs(population, forward, _SPACING, _draw_sign)
    ]


def add_advertisements(population: Population) -> None:
    """Add lit shop signs and advertisements behind the sidewalks; they are not annotated."""
    layout, rng = population.layout, population.rng
    for side in (layout.left, layout.right):
        s = float(rng.uniform(5.0, 25.0))
        while s < layout.centre.length_m - 10.0:
            beside = side.back_m + float(rng.uniform(0.2, 1.6))
            x, y, heading = (float(v) for v in layout.centre.at(s, side.sign * beside))
            yaw = heading + np.pi * float(rng.integers(2)) + float(rng.normal(0, 0.15))
            if population.reserve(x, y, yaw, (0.3, 0.6)):
                _add_advertisement(population, x, y, yaw)
            s += float(rng.uniform(12.0, 50.0))


def _add_advertisement(population: Population, x_m: float, y_m: float, yaw_rad: float) -> None:
    rng = population.rng
    low, height = float(rng.uniform(2.2, 4.6)), float(rng.uniform(0.5, 1.3))
    width = height * float(rng.choice([1.0, 1.0, 1.8]))
    ground = _GROUNDS[int(rng.integers(len(_GROUNDS)))]
    lit = _LIT[int(rng.choice(len(_LIT), p=[0.35, 0.35, 0.2, 0.1]))]
    parts = PrimitiveList()
    parts.add(Pattern.PLAIN, (-0.1, 0, 0), (0.12, 0.12, low + height), POLE, kind=Kind.POST)
    size = (0.16, width, height)
    parts.add(Pattern.ADVERTISEMENT, (0, 0, low), size, ground, colour2=lit)
    placed = place_at(parts.finish(), x_m, y_m, yaw_rad)
    placed.paint[1, P_SEED] = rng.random()
    placed.codes[0, C_SEMANTIC] = SEMANTIC_CLASSES.index("pole")
    population.scenery.append(placed)
