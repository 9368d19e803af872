"""Models of cars, trucks, buses, trailers and machines, with sizes distributed as in nuScenes.

Every model fills its annotated box: it touches all six sides, and no part is outside.
The object frame: x forward, y left, z up, origin on the ground below the box's centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bevstack.synthetic.renderer.primitives import Kind, Pattern, PrimitiveList, Primitives

Colour = tuple[float, float, float]
_TYRE: Colour = (0.045, 0.045, 0.05)
_HUB: Colour = (0.55, 0.56, 0.58)
_STEEL: Colour = (0.35, 0.36, 0.38)

_CAR_COLOURS: tuple[Colour, ...] = (
    (0.88, 0.88, 0.90),
    (0.10, 0.10, 0.12),
    (0.55, 0.57, 0.60),
    (0.72, 0.10, 0.09),
    (0.11, 0.22, 0.55),
    (0.30, 0.32, 0.35),
    (0.52, 0.43, 0.30),
    (0.10, 0.33, 0.25),
)
_CARGO_COLOURS: tuple[Colour, ...] = (
    (0.92, 0.92, 0.90),
    (0.86, 0.84, 0.76),
    (0.70, 0.76, 0.84),
    (0.35, 0.52, 0.38),
)
_LOGO_COLOURS: tuple[Colour, ...] = (
    (0.75, 0.12, 0.12),
    (0.10, 0.28, 0.62),
    (0.12, 0.48, 0.22),
    (0.90, 0.55, 0.08),
)
_BUS_COLOURS: tuple[Colour, ...] = (
    (0.80, 0.13, 0.13),
    (0.13, 0.50, 0.30),
    (0.93, 0.88, 0.80),
    (0.95, 0.72, 0.12),
)
_CONTAINER_COLOURS: tuple[Colour, ...] = (
    (0.62, 0.24, 0.12),
    (0.14, 0.30, 0.50),
    (0.18, 0.40, 0.28),
    (0.55, 0.56, 0.58),
)


@dataclass(frozen=True)
class ObjectModel:
    """Category, full size and shape of an annotated object."""

    category: str
    size_m: tuple[float, float, float]  # length, width, height
    primitives: Primitives  # in the object frame


def draw_size(
    rng: np.random.Generator,
    mean: tuple[float, float, float],
    spread: float | tuple[float, float, float],
) -> tuple[float, float, float]:
    """Draw a size (length, width, height) around a mean.

    Args:
        rng: source of the draws.
        mean: m.
        spread: standard deviation relative to the mean, one for all axes or one per axis. The axes
            are correlated, and no size is more than 2.4 deviations from its mean.
    """
    drawn = 0.85 * rng.normal() + 0.53 * rng.normal(size=3)
    factors = 1 + np.broadcast_to(spread, 3) * 2.4 * np.tanh(drawn / 2.0)
    length, width, height = (round(float(m * f), 3) for m, f in zip(mean, factors, strict=True))
    return length, width, height


def vary(rng: np.random.Generator, colours: tuple[Colour, ...], spread: float = 0.05) -> Colour:
    """Choose one of the colours and vary its brightness and hue a little."""
    base = np.array(colours[int(rng.integers(len(colours)))])
    tinted = base * (1 + rng.normal(0, 0.08)) + rng.normal(0, spread * 0.5, 3)
    red, green, blue = np.clip(tinted, 0.02, 0.97)
    return float(red), float(green), float(blue)


def _add_wheels(
    parts: PrimitiveList,
    axles_m: tuple[float, ...],
    width: float,
    radius: float,
    tyre_width: float,
) -> None:
    """Add a wheel on either side of each axle."""
    for x in axles_m:
        for side in (1.0, -1.0):
            parts.add(
                Pattern.TYRE,
                (x, side * (width - tyre_width) / 2, 0.0),
                (2 * radius, tyre_width, 2 * radius),
                _TYRE,
                colour2=_HUB,
                kind=Kind.WHEEL,
            )


def make_car(rng: np.random.Generator) -> ObjectModel:
    """Make a saloon, hatchback, estate or pick-up: body, sloped cabin, four wheels."""
    length, width, height = draw_size(rng, (4.53, 1.81, 1.67), (0.083, 0.08, 0.112))
    style = int(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1]))
    colour = vary(rng, _CAR_COLOURS)
    body_height = height * (0.50 if style < 2 else 0.54)
    lift = 0.20 + 0.02 * style
    parts = PrimitiveList()
    parts.add(
        Pattern.CAR_BODY,
        (0.0, 0.0, lift),
        (length, width - 0.04, body_height - lift),
        colour,
        slopes=(0.10, 0.06, 0.05),
    )
    # cabin: rear and front end (fractions of the length), slopes of windscreen and rear window (m)
    rear, front, screen, back = (
        (-0.36, 0.20, 0.62, 0.55),
        (-0.47, 0.18, 0.55, 0.25),
        (-0.49, 0.27, 0.50, 0.12),
        (-0.10, 0.22, 0.50, 0.12),
    )[style]
    parts.add(
        Pattern.CAR_CABIN,
        ((rear + front) / 2 * length, 0.0, body_height - 0.01),
        ((front - rear) * length, width - 0.14, height - body_height + 0.01),
        colour,
        slopes=(screen, back, 0.14),
    )
    radius = 0.31 + 0.015 * style
    _add_wheels(parts, (0.31 * length, -0.30 * length), width, radius, 0.20)
    return ObjectModel("vehicle.car", (length, width, height), parts.finish())


def make_truck(rng: np.random.Generator) -> ObjectModel:
    """Make a truck: a cab in front of a tall cargo box."""
    length, width, height = draw_size(rng, (5.89, 2.23, 2.71), (0.15, 0.09, 0.13))
    cab_length = min(2.1, 0.33 * length)
    cab_height = height * float(rng.uniform(0.74, 0.90))
    cab, cargo = vary(rng, _CAR_COLOURS), vary(rng, _CARGO_COLOURS)
    parts = PrimitiveList()
    parts.add(
        Pattern.TRUCK_CAB,
        ((length - cab_length) / 2, 0.0, 0.38),
        (cab_length, width - 0.08, cab_height - 0.38),
        cab,
        slopes=(0.22, 0.0, 0.04),
    )
    box_length = length - cab_length - 0.18
    floor = 0.85
    parts.add(
        Pattern.CARGO,
        (-(length - box_length) / 2, 0.0, floor),
        (box_length, width, height - floor),
        cargo,
        colour2=vary(rng, _LOGO_COLOURS),
    )
    parts.add(Pattern.PLAIN, (-0.2, 0.0, 0.5), (length - 0.8, 0.9, floor - 0.5), (0.08, 0.08, 0.09))
    axles = (length / 2 - 0.55 * cab_length, -length / 2 + 0.22 * length)
    _add_wheels(parts, axles, width, 0.47, 0.28)
    return ObjectModel("vehicle.truck", (length, width, height), parts.finish())


def make_bus(rng: np.random.Generator) -> ObjectModel:
    """Make a city bus, sometimes articulated: long windows, a lit sign above the windscreen."""
    bendy = bool(rng.random() < 0.15)
    mean = (16.5, 2.88, 3.35) if bendy else (11.3, 2.88, 3.43)
    length, width, height = draw_size(rng, mean, (0.08, 0.05, 0.06))
    colour, stripe = vary(rng, _BUS_COLOURS), vary(rng, _LOGO_COLOURS)
    parts = PrimitiveList()
    sections: tuple[tuple[float, float], ...] = ((0.0, length),)
    if bendy:
        half = (length - 0.8) / 2
        sections = (((length - half) / 2, half), (-(length - half) / 2, half))
        parts.add(Pattern.PLAIN, (0.0, 0.0, 0.4), (1.2, width - 0.3, height - 0.7), (0.1, 0.1, 0.1))
    for x, section in sections:
        parts.add(
            Pattern.BUS_BODY,
            (x, 0.0, 0.32),
            (section, width, height - 0.32),
            colour,
            colour2=stripe,
            slopes=(0.12, 0.04, 0.03),
        )
    _add_wheels(parts, (0.30 * length, -0.26 * length), width, 0.48, 0.30)
    name = "vehicle.bus.bendy" if bendy else "vehicle.bus.rigid"
    return ObjectModel(name, (length, width, height), parts.finish())


def make_trailer(rng: np.random.Generator) -> ObjectModel:
    """Make a ribbed container on a chassis: wheels at the rear, landing legs in front, no cab."""
    length, width, height = draw_size(rng, (12.0, 2.87, 3.82), (0.15, 0.06, 0.08))
    parts = PrimitiveList()
    floor = 1.15
    parts.add(
        Pattern.CONTAINER,
        (0.0, 0.0, floor),
        (length, width, height - floor),
        vary(rng, _CONTAINER_COLOURS),
    )
    parts.add(Pattern.PLAIN, (0.0, 0.0, 0.85), (length - 0.3, 1.1, 0.3), (0.07, 0.07, 0.08))
    rear = -length / 2
    _add_wheels(parts, (rear + 0.9, rear + 2.1), width, 0.5, 0.32)
    for side in (0.8, -0.8):
        parts.add(Pattern.PLAIN, (0.30 * length, side, 0.0), (0.16, 0.16, floor), _STEEL)
    return ObjectModel("vehicle.trailer", (length, width, height), parts.finish())


def make_construction_vehicle(rng: np.random.Generator) -> ObjectModel:
    """Make a yellow excavator or wheel loader: cabin, raised arm, shovel in front."""
    length, width, height = draw_size(rng, (6.38, 2.73, 3.13), 0.10)
    yellow = vary(rng, ((0.93, 0.70, 0.07), (0.93, 0.60, 0.05)), 0.03)
    parts = PrimitiveList()
    if rng.random() < 0.5:  # excavator on tracks
        for side in (1.0, -1.0):
            parts.add(
                Pattern.PLAIN,
                (-0.16 * length, side * (width / 2 - 0.28), 0.0),
                (0.60 * length, 0.56, 0.75),
                (0.10, 0.10, 0.10),
                slopes=(0.25, 0.25, 0.0),
            )
        deck = 0.85
    else:
        _add_wheels(parts, (0.08 * length, -0.32 * length), width, 0.68, 0.55)
        deck = 0.75
    parts.add(
        Pattern.MACHINE, (-0.18 * length, 0.0, deck), (0.64 * length, width - 0.3, 0.95), yellow
    )
    parts.add(
        Pattern.MACHINE_CABIN,
        (-0.06 * length, 0.22 * width, deck + 0.95),
        (0.26 * length, 0.42 * width, height - deck - 0.95),
        yellow,
        slopes=(0.2, 0.0, 0.05),
    )
    for i in range(4):  # the arm rises, then falls towards the shovel
        x = length * (0.10 + 0.095 * i)
        z = deck + (0.9, 1.25, 1.15, 0.55)[i] * (height - deck) / 2.4
        parts.add(
            Pattern.PLAIN,
            (x, -0.1 * width, z),
            (0.13 * length, 0.34, 0.5),
            yellow,
            slopes=(0, 0, 0),
        )
    parts.add(
        Pattern.PLAIN,
        (0.43 * length, 0.0, 0.06),
        (0.14 * length, 0.9 * width, 0.85),
        (0.30, 0.28, 0.25),
        slopes=(0.0, 0.35, 0.0),
    )
    return ObjectModel("vehicle.construction", (length, width, height), parts.finish())
