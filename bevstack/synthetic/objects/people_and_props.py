"""Models of people, two-wheelers, barriers, cones, racks and objects outside the ten classes."""

from __future__ import annotations

import numpy as np

from bevstack.synthetic.objects.vehicles import Colour, ObjectModel, draw_size, vary
from bevstack.synthetic.renderer.primitives import Kind, Pattern, PrimitiveList
from bevstack.tables.names import BICYCLE_RACK_CATEGORY

_SKIN: tuple[Colour, ...] = ((0.85, 0.65, 0.52), (0.60, 0.42, 0.30), (0.38, 0.26, 0.19))
_HAIR: tuple[Colour, ...] = ((0.08, 0.06, 0.05), (0.28, 0.18, 0.10), (0.50, 0.40, 0.24))
_SHIRTS: tuple[Colour, ...] = (
    (0.80, 0.15, 0.15),
    (0.12, 0.25, 0.60),
    (0.85, 0.85, 0.82),
    (0.12, 0.12, 0.14),
    (0.85, 0.65, 0.15),
    (0.15, 0.45, 0.25),
    (0.50, 0.25, 0.50),
)
_TROUSERS: tuple[Colour, ...] = ((0.10, 0.12, 0.22), (0.10, 0.10, 0.10), (0.42, 0.36, 0.28))
_FRAMES: tuple[Colour, ...] = ((0.75, 0.12, 0.12), (0.12, 0.35, 0.70), (0.10, 0.10, 0.10))
_TANKS: tuple[Colour, ...] = ((0.70, 0.08, 0.08), (0.12, 0.12, 0.14), (0.10, 0.20, 0.55))
_RUBBER: Colour = (0.05, 0.05, 0.05)


def _add_person(
    parts: PrimitiveList,
    rng: np.random.Generator,
    height: float,
    width: float,
    foot: tuple[float, float, float],
    *,
    vest: bool = False,
    legs: bool = True,
    stride_m: float = 0.0,
) -> None:
    """Add a person: head with a face, torso with a backpack, two arms, two legs in stride."""
    x, y, z = foot
    skin, shirt, trousers = vary(rng, _SKIN), vary(rng, _SHIRTS), vary(rng, _TROUSERS)
    if vest:
        shirt = (0.95, 0.50, 0.05) if rng.random() < 0.5 else (0.80, 0.95, 0.10)
    hip = 0.47 * height if legs else 0.0
    shoulder = 0.85 * height if legs else 0.70 * height
    depth = min(0.26, 0.45 * width)
    if legs:
        for side in (1.0, -1.0):
            parts.add(
                Pattern.PLAIN,
                (x + side * stride_m, y + side * 0.17 * width, z),
                (0.17, 0.17, hip + 0.02),
                trousers,
                kind=Kind.POST,
            )
            parts.add(
                Pattern.PLAIN,
                (x + side * stride_m + 0.03, y + side * 0.17 * width, z),
                (0.28, 0.11, 0.09),
                _RUBBER,
            )
    parts.add(
        Pattern.VEST if vest else Pattern.TORSO,
        (x, y, z + hip),
        (depth, 0.62 * width, shoulder - hip),
        shirt,
        colour2=vary(rng, _SHIRTS),
        slopes=(0.02, 0.02, -0.02),
    )
    for side in (1.0, -1.0):
        parts.add(
            Pattern.PLAIN,
            (x + 0.02 - side * 0.8 * stride_m, y + side * 0.42 * width, z + hip - 0.06 * legs),
            (0.13, 0.16 * width, shoulder - hip),
            shirt,
            kind=Kind.POST,
        )
    parts.add(
        Pattern.HEAD,
        (x + 0.01, y, z + shoulder),
        (0.23, 0.20, height - shoulder),
        skin,
        colour2=(0.95, 0.85, 0.10) if vest else vary(rng, _HAIR),
        kind=Kind.ELLIPSOID,
    )


def make_pedestrian(
    rng: np.random.Generator, worker: bool = False, walks: bool = False
) -> ObjectModel:
    """Make an adult, child, police officer or construction worker, longer if walking."""
    draw = rng.random()
    name, mean = "human.pedestrian.adult", (0.78 if walks else 0.46, 0.63, 1.74)
    if worker:
        name = "human.pedestrian.construction_worker"
    elif draw < 0.05:
        name, mean = "human.pedestrian.child", (0.56 if walks else 0.42, 0.46, 1.30)
    elif draw < 0.06:
        name = "human.pedestrian.police_officer"
    length, width, height = draw_size(rng, mean, (0.14, 0.12, 0.06))
    length = max(length, 0.36)  # at least a shoe and the leg above it
    parts = PrimitiveList()
    stride = max(0.0, length / 2 - 0.17)
    _add_person(parts, rng, height, width, (0.0, 0.0, 0.0), vest=worker, stride_m=stride)
    return ObjectModel(name, (length, width, height), parts.finish())


def make_bicycle(rng: np.random.Generator, rider: bool) -> ObjectModel:
    """Make a bicycle: two thin rings, a frame, handlebars, and a rider if `rider`."""
    length, width, height = draw_size(rng, (1.80, 0.60, 1.75 if rider else 1.10), 0.07)
    frame = vary(rng, _FRAMES)
    parts = PrimitiveList()
    _add_bicycle(parts, rng, frame, (0.0, 0.0), length, width, 1.10 if rider else height)
    if rider:
        _add_person(parts, rng, height - 0.72, 0.52, (-0.12, 0.0, 0.72), legs=False)
        for side in (0.11, -0.11):
            parts.add(
                Pattern.PLAIN,
                (0.0, side, 0.22),
                (0.20, 0.13, 0.62),
                vary(rng, _TROUSERS),
                kind=Kind.POST,
            )
    return ObjectModel("vehicle.bicycle", (length, width, height), parts.finish())


def _add_bicycle(
    parts: PrimitiveList,
    rng: np.random.Generator,
    frame: Colour,
    centre: tuple[float, float],
    length: float,
    width: float,
    height: float,
    yaw_rad: float = 0.0,
) -> None:
    """Add the parts of a bicycle without its rider."""
    cos, sin = float(np.cos(yaw_rad)), float(np.sin(yaw_rad))

    def add(
        x: float, z: float, size: tuple[float, float, float], colour: Colour, hole_m: float = 0.0
    ) -> None:
        parts.add(
            Pattern.PLAIN,
            (centre[0] + cos * x, centre[1] + sin * x, z),
            size,
            colour,
            yaw_rad=yaw_rad,
            hole_m=hole_m,
            kind=Kind.RING if hole_m else Kind.BOX,
        )

    reach = length / 2 - 0.34
    for x in (reach, -reach):
        add(x, 0.0, (0.68, 0.07, 0.68), _RUBBER, hole_m=0.27)
    add(0.0, 0.52, (2 * reach * 0.86, 0.07, 0.09), frame)
    add(-0.35 * reach, 0.30, (0.08, 0.07, 0.55), frame)
    add(0.45 * reach, 0.30, (0.08, 0.07, 0.45), frame)
    add(-0.40 * reach, height - 0.24, (0.28, 0.16, 0.09), _RUBBER)
    add(0.80 * reach, 0.60, (0.06, 0.06, height - 0.60), frame)
    add(0.78 * reach, height - 0.06, (0.08, width, 0.06), _RUBBER)


def make_motorcycle(rng: np.random.Generator, rider: bool) -> ObjectModel:
    """Make a motorcycle: wide wheels, engine, tank, seat, headlight, and a rider if `rider`."""
    length, width, height = draw_size(rng, (2.07, 0.64, 1.68 if rider else 1.20), 0.08)
    tank = vary(rng, _TANKS)
    top = 1.15 if rider else height
    parts = PrimitiveList()
    for x in (length / 2 - 0.33, -length / 2 + 0.33):
        parts.add(
            Pattern.TYRE,
            (x, 0.0, 0.0),
            (0.66, 0.17, 0.66),
            _RUBBER,
            colour2=(0.5, 0.5, 0.52),
            kind=Kind.WHEEL,
        )
    parts.add(Pattern.PLAIN, (0.0, 0.0, 0.26), (0.72, 0.30, 0.42), (0.22, 0.22, 0.24))
    parts.add(Pattern.PLAIN, (0.18, 0.0, 0.66), (0.62, 0.32, 0.26), tank, slopes=(0.1, 0.1, 0.06))
    parts.add(Pattern.PLAIN, (-0.42, 0.0, 0.66), (0.72, 0.28, 0.16), (0.06, 0.06, 0.06))
    parts.add(Pattern.PLAIN, (0.58, 0.0, 0.55), (0.14, 0.14, top - 0.55), (0.25, 0.25, 0.27))
    parts.add(Pattern.PLAIN, (0.52, 0.0, top - 0.08), (0.10, width, 0.08), _RUBBER)
    parts.add(Pattern.LAMP, (0.68, 0.0, 0.80), (0.10, 0.22, 0.20), (1.0, 0.96, 0.8))
    parts.add(Pattern.LAMP, (-0.80, 0.0, 0.70), (0.08, 0.22, 0.12), (0.8, 0.05, 0.05))
    if rider:
        _add_person(parts, rng, height - 0.72, min(0.60, width), (-0.20, 0.0, 0.72), legs=False)
        for side in (0.35 * width, -0.35 * width):
            parts.add(Pattern.PLAIN, (0.05, side, 0.30), (0.50, 0.14, 0.45), (0.10, 0.12, 0.20))
    return ObjectModel("vehicle.motorcycle", (length, width, height), parts.finish())


def make_barrier(rng: np.random.Generator) -> ObjectModel:
    """Make a road barrier; its long side is its width, across its heading, as in nuScenes."""
    long_side = float(rng.uniform(1.7, 3.3))
    length, width, height = draw_size(rng, (0.50, long_side, 0.98), (0.2, 0.05, 0.1))
    parts = PrimitiveList()
    concrete = rng.random() < 0.3
    red = vary(rng, ((0.90, 0.30, 0.06), (0.82, 0.12, 0.08)), 0.03)
    white = (0.93, 0.93, 0.92)
    if concrete:
        red, white = (0.82, 0.80, 0.76), (0.88, 0.42, 0.12)
    parts.add(Pattern.PLAIN, (0.0, 0.0, 0.0), (length, width, 0.28), white)
    parts.add(
        Pattern.STRIPES,
        (0.0, 0.0, 0.28),
        (length * 0.72, width, height - 0.28),
        red,
        colour2=white,
        slopes=(0.10, 0.10, 0.0),
    )
    return ObjectModel("movable_object.barrier", (length, width, height), parts.finish())


def make_cone(rng: np.random.Generator) -> ObjectModel:
    """Make a traffic cone, sometimes a taller channelising post, with a white band."""
    tall = rng.random() < 0.4
    length, width, height = draw_size(rng, (0.36, 0.34, 1.10 if tall else 0.78), 0.12)
    orange = vary(rng, ((0.98, 0.36, 0.04), (0.95, 0.28, 0.05)), 0.02)
    parts = PrimitiveList()
    parts.add(Pattern.PLAIN, (0.0, 0.0, 0.0), (length, width, 0.06), (0.10, 0.09, 0.08))
    lean = (0.36 if not tall else 0.24) * length
    parts.add(
        Pattern.BANDS,
        (0.0, 0.0, 0.05),
        (0.84 * length, 0.84 * width, height - 0.05),
        orange,
        colour2=(0.95, 0.95, 0.95),
        slopes=(lean, lean, lean),
    )
    return ObjectModel("movable_object.trafficcone", (length, width, height), parts.finish())


def make_bicycle_rack(rng: np.random.Generator) -> ObjectModel:
    """Make a bicycle rack: hoops and some bicycles in one annotation, as in nuScenes."""
    length, width, height = draw_size(rng, (6.5, 2.0, 1.25), 0.10)
    parts = PrimitiveList()
    count = int(length / 0.75)
    pitch, top = (length - 0.4) / count, min(1.05, height)
    for i in range(count):
        x = -length / 2 + 0.2 + (i + 0.5) * pitch
        for side in (0.3, -0.3):
            parts.add(
                Pattern.PLAIN, (x, side, 0.0), (0.07, 0.07, 0.80), (0.5, 0.52, 0.55), kind=Kind.POST
            )
        parts.add(Pattern.PLAIN, (x, 0.0, 0.76), (0.07, 0.66, 0.07), (0.5, 0.52, 0.55))
        if rng.random() < 0.55:
            _add_bicycle(
                parts,
                rng,
                vary(rng, _FRAMES),
                (x + 0.2, 0.0),
                width,
                0.45,
                top,
                np.pi / 2,
            )
    parts.add(Pattern.PLAIN, (0.0, 0.0, 0.0), (length, 0.08, 0.06), (0.4, 0.4, 0.42))
    parts.add(Pattern.PLAIN, (-length / 2 + 0.1, 0.0, 0.0), (0.2, width, 0.06), (0.4, 0.4, 0.42))
    parts.add(Pattern.PLAIN, (length / 2 - 0.05, 0.0, 0.0), (0.1, 0.1, height), (0.2, 0.3, 0.6))
    return ObjectModel(BICYCLE_RACK_CATEGORY, (length, width, height), parts.finish())


def make_clutter(rng: np.random.Generator) -> ObjectModel:
    """Make an object that is annotated and never scored: debris, a wheeled bin or a pram."""
    parts = PrimitiveList()
    draw = int(rng.integers(3))
    if draw == 0:
        length, width, height = draw_size(rng, (0.9, 0.7, 0.5), 0.15)
        parts.add(
            Pattern.PLAIN,
            (0, 0, 0),
            (length, width, height),
            (0.45, 0.36, 0.25),
            slopes=(0.2, 0.1, 0.1),
        )
        return ObjectModel("movable_object.debris", (length, width, height), parts.finish())
    if draw == 1:
        length, width, height = draw_size(rng, (0.85, 0.62, 1.10), 0.08)
        green = (0.12, 0.32, 0.18)
        parts.add(
            Pattern.PLAIN,
            (0, 0, 0.0),
            (length, width, height - 0.10),
            green,
            slopes=(0.03, 0.1, 0.0),
        )
        parts.add(Pattern.PLAIN, (0, 0, height - 0.10), (length, width, 0.10), (0.08, 0.22, 0.12))
        name = "movable_object.pushable_pullable"
        return ObjectModel(name, (length, width, height), parts.finish())
    length, width, height = draw_size(rng, (0.95, 0.55, 1.05), 0.06)
    parts.add(Pattern.PLAIN, (0.05, 0, 0.40), (0.7 * length, width, 0.42), vary(rng, _SHIRTS))
    parts.add(Pattern.PLAIN, (-0.42 * length, 0, 0.75), (0.08, width, height - 0.75), _RUBBER)
    for x in (0.35 * length, -0.3 * length):
        parts.add(Pattern.TYRE, (x, 0, 0), (0.26, width * 0.9, 0.26), _RUBBER, kind=Kind.WHEEL)
    return ObjectModel("human.pedestrian.stroller", (length, width, height), parts.finish())
