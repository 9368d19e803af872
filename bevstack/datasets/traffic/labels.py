"""Names of lights' states in published data sets, as lamps; mending of their boxes.

A name is looked up in the data set's own table. A name that is not there is refused: a wrong guess
would teach a model a wrong colour. Colour and arrow stay apart, so that no pair such as a red arrow
to the left is lost; ``TrafficElement.attribute`` is its projection on OpenLane-V2's attributes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from bevstack.json_files import shorten
from bevstack.types.traffic import HOUSING, Lamp, TrafficElement, attribute_of_lamps
from bevstack.vocabulary import MANOEUVRES, TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT

Box = tuple[float, float, float, float]  # left, top, right, bottom, pixels
# Visibility of a light that its data set marks as occluded without a share.
OCCLUDED_VISIBILITY = 0.5

# Reasons of ``Counts``.
INVERTED, OVERFLOWING, EMPTY = "inverted box", "box beyond the image", "empty box"

_WORDS = {
    "amber": "yellow",
    "forward": "straight",
    "uturn": "u_turn",
}
_COLORS = ("red", "yellow", "green")
_SHAPES = ("circle", "straight", "left", "right", "u_turn", "pedestrian", "bicycle", "tram")
_FILLERS = ("traffic", "light", "lights", "trafficlight", "arrow", "lamp", "signal", "tl", "on")
_NAMES_HINT = (
    "colours red, yellow (amber), green, off or unknown, with shapes such as left, right, straight"
)
_ARROW_ATTRIBUTES = {
    "straight": "go_straight",
    "left": "turn_left",
    "right": "turn_right",
    "u_turn": "u_turn",
    "slight_left": "slight_left",
    "slight_right": "slight_right",
}


@dataclass
class Counts:
    """Numbers of labels that were dropped or mended, by reason."""

    dropped: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)

    def box(self, where: str, box: Box, size: tuple[int, int] | None) -> Box | None:
        """Return a box with its corners in order, clipped to the image; None if it is empty.

        Args:
            where: place of the box for messages.
            box: two opposite corners.
            size: (H, W) of the image; None does not clip.
        """
        left, top, right, bottom = box
        ordered = min(left, right), min(top, bottom), max(left, right), max(top, bottom)
        if ordered != box:
            self.mended[INVERTED] += 1
        left, top, right, bottom = ordered
        if size is not None:
            height, width = size
            left, right = (min(max(x, 0.0), float(width)) for x in (left, right))
            top, bottom = (min(max(y, 0.0), float(height)) for y in (top, bottom))
        clipped = left, top, right, bottom
        if not (left < right and top < bottom):
            self.dropped[EMPTY] += 1
            return None
        if clipped != ordered:
            self.mended[OVERFLOWING] += 1
        return clipped


def look_up_lamps(
    where: str, name: object, table: Mapping[str, tuple[Lamp, ...] | None]
) -> tuple[Lamp, ...] | None:
    """Return the lit lamps of a state's name.

    Args:
        where: place of the name for messages.
        name: the name as in the file.
        table: the data set's names; None as a value: the state is unknown.

    Raises:
        ValueError: the name is not in the table.
    """
    if not isinstance(name, str) or name not in table:
        refuse_label(where, name, table)
    return table[name]


def refuse_label(where: str, name: object, known: Iterable[str]) -> NoReturn:
    """Raise an error for a label that a data set does not have.

    Raises:
        ValueError: always; names the label and the known ones.
    """
    raise ValueError(f"{where} must be one of {', '.join(sorted(known))}; got {shorten(name)}")


def parse_light_name(where: str, name: str) -> tuple[Lamp, ...] | None:
    """Return the lit lamps of a class of a free list, such as "red", "left" or "GreenStraight".

    Args:
        where: place of the name for messages.
        name: words for colours and shapes, separated by capitals, spaces, "_" or "-".

    Raises:
        ValueError: a word is neither a colour nor a shape.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = [_WORDS.get(word, word) for word in re.split(r"[\s_\-]+", spaced) if word]
    words = [word for word in words if word not in _FILLERS]
    known = {*_COLORS, *_SHAPES, "off", "unknown"}
    unknown = [word for word in words if word not in known]
    if unknown or not words:
        raise ValueError(
            f"{where} must be a light's state made of {_NAMES_HINT}; got {shorten(name)}"
        )
    if words == ["off"]:
        return ()
    if words == ["unknown"]:
        return None
    colors = [word for word in words if word in _COLORS] or ["unknown"]
    shapes = [word for word in words if word in _SHAPES] or ["unknown"]
    if "off" in words or "unknown" in words:
        raise ValueError(f"{where} must be off, unknown or a lit state; got {shorten(name)}")
    return tuple(Lamp(color, shape) for color in colors for shape in shapes)


def light_attribute(lamps: tuple[Lamp, ...] | None) -> int:
    """Return OpenLane-V2's attribute of a light: its colour, else its arrow, else unknown."""
    attribute = attribute_of_lamps(lamps or ())
    if attribute == 0 and lamps and len(lamps) == 1:
        name = _ARROW_ATTRIBUTES.get(lamps[0].shape, "unknown")
        attribute = TRAFFIC_ELEMENT_ATTRIBUTES.index(name)
    return attribute


def make_light(
    *,
    token: str,
    image: str,
    box_px: Box,
    lamps: tuple[Lamp, ...] | None,
    source: str,
    box_convention: str = HOUSING,
    occluded: bool = False,
    instance_token: str = "",
    road_user: str = "vehicle",
    relevant: bool | None = None,
) -> TrafficElement:
    """Return a traffic light of one image; see ``TrafficElement`` for the fields."""
    return TrafficElement(
        token=token,
        category=TRAFFIC_LIGHT,
        attribute=light_attribute(lamps),
        box_px=box_px,
        instance_token=instance_token,
        sample_data_token=image,
        visibility=OCCLUDED_VISIBILITY if occluded else 1.0,
        lamps=lamps,
        manoeuvres=_manoeuvres(lamps),
        road_user=road_user,
        box_convention=box_convention,
        relevant=relevant,
        source=source,
    )


def _manoeuvres(lamps: tuple[Lamp, ...] | None) -> tuple[str, ...]:
    """Return the turns that a light of arrows governs; () if a lamp is no arrow."""
    shapes = tuple(dict.fromkeys(lamp.shape for lamp in lamps or ()))
    return shapes if set(shapes) <= set(MANOEUVRES) else ()
