"""RGB colours of classes and of the elements of a drawing.

Any two class colours, and white (the true boxes), differ by at least 18 units in CIE Lab for
normal, protan, deutan and tritan vision under the simulation of Machado et al. 2009 (a test
computes it). Colour is never the only mark: predicted boxes have their class written beside them,
and true boxes are outlines on the ground or have a view of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

RGB = tuple[int, int, int]

CLASS_COLORS: Mapping[str, RGB] = MappingProxyType(
    {
        "barrier": (146, 127, 250),  # violet
        "bicycle": (0, 182, 140),  # green
        "bus": (188, 236, 116),  # lime
        "car": (255, 231, 29),  # yellow
        "construction_vehicle": (157, 104, 0),  # brown
        "motorcycle": (167, 255, 182),  # mint
        "pedestrian": (41, 223, 255),  # sky blue
        "traffic_cone": (226, 48, 172),  # pink
        "trailer": (187, 82, 75),  # brick
        "truck": (213, 156, 0),  # orange
    }
)
# States of traffic lights; signs have one colour. Words and lamps beside the boxes state them too.
STATE_COLORS: Mapping[str, RGB] = MappingProxyType(
    {
        "red": (255, 76, 70),
        "yellow": (255, 200, 0),
        "green": (36, 214, 118),
        "red_yellow": (255, 140, 30),
        "white": (255, 255, 255),
        "off": (150, 156, 168),
        "unknown": (188, 194, 206),
        "sign": (104, 178, 255),
    }
)
# Advice of a cue: ground and text, whose contrast is 4.5 or more (a test computes it).
ADVICE_COLORS: Mapping[str, tuple[RGB, RGB]] = MappingProxyType(
    {
        "go": ((0, 122, 64), (255, 255, 255)),
        "stop": ((200, 24, 30), (255, 255, 255)),
        "caution": ((255, 196, 0), (0, 0, 0)),
        "unknown": ((86, 94, 108), (255, 255, 255)),
    }
)
# Learning curves, on white: Okabe and Ito's colour-blind-safe set without its yellow, which is too
# pale for a line on white.
CURVE_COLORS: tuple[RGB, ...] = (
    (0, 0, 0),
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
)

HOUSING: RGB = (16, 17, 20)  # ground of a drawn lamp

WHITE: RGB = (255, 255, 255)
BLACK: RGB = (0, 0, 0)
BACKGROUND: RGB = (22, 25, 30)  # sheets
PANEL: RGB = (30, 34, 41)  # bird's-eye view, lost cameras
RULE: RGB = (74, 82, 94)  # range rings
ROAD: RGB = (50, 57, 67)  # drivable area
LANE: RGB = (72, 80, 93)  # centre lines
SHADOW: RGB = (92, 101, 114)  # true boxes below predicted ones, from above
TRAIL: RGB = (224, 228, 234)  # path of the ego vehicle
TEXT_LUMA = 178.0  # of the darkest text, of 255
MUTED: RGB = (158, 167, 179)  # secondary text on BACKGROUND and PANEL


def text_color(color: RGB) -> RGB:
    """Return a colour for text on dark ground: the colour itself, mixed with white if it is dark.

    Its luma is at least ``TEXT_LUMA``, which gives a contrast of 7 or more on ``PANEL``.
    """
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    white = max((TEXT_LUMA - luma) / (255 - luma), 0.0) if luma < 255 else 0.0
    red, green, blue = (round(channel + white * (255 - channel)) for channel in color)
    return (red, green, blue)


def class_color(class_names: tuple[str, ...], label: int) -> RGB:
    """Return the colour of a class; an unknown class gets one of ``CLASS_COLORS`` by its index.

    Raises:
        ValueError: The label has no class name.
    """
    if not 0 <= label < len(class_names):
        raise ValueError(
            f"label must be an index of the {len(class_names)} class names; got {label}: "
            "pass the class names that the boxes were labelled with"
        )
    colors = tuple(CLASS_COLORS.values())
    return CLASS_COLORS.get(class_names[label], colors[label % len(colors)])
