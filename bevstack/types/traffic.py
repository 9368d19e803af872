"""Annotated traffic lights, signs and lanes, of worlds and of published data sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.vocabulary import (
    LAMP_COLORS,
    LAMP_SHAPES,
    LAMP_STATUSES,
    MANOEUVRES,
    ROAD_SIGN,
    SIGN_MEANINGS,
    TRAFFIC_ELEMENT_ATTRIBUTES,
    TRAFFIC_LIGHT,
)

HOUSING, LAMP = "housing", "lamp"  # the two conventions of an element's box
BOX_CONVENTIONS = (HOUSING, LAMP)
# Road users that a light is for.
ROAD_USERS = ("vehicle", "pedestrian", "bicycle", "tram", "unknown")
# Pixels of an image that must show the lit lamp; below them, its colour cannot be read. At 0 pixels
# the packaged weights name 0.57 of the colours, which is guessing, from 2 on 0.94 (docs/lights.md).
MIN_LAMP_PIXELS = 1.0
# Attribute of a light that shows several colours: the one that forbids most comes first.
_COLOR_ORDER = ("red", "yellow", "green")


@dataclass(frozen=True)
class Lamp:
    """A lamp of a traffic light.

    Raises:
        ValueError: a name is not in ``bevstack.vocabulary``.
    """

    color: str  # of LAMP_COLORS
    shape: str = "circle"  # of LAMP_SHAPES
    status: str = "on"  # of LAMP_STATUSES

    def __post_init__(self) -> None:
        _expect_name("Lamp.color", self.color, LAMP_COLORS)
        _expect_name("Lamp.shape", self.shape, LAMP_SHAPES)
        _expect_name("Lamp.status", self.status, LAMP_STATUSES)


@dataclass(frozen=True, kw_only=True)
class TrafficElement:
    """A traffic light or sign in one image.

    Fields with a default are those that only some data sets have.

    Raises:
        ValueError: a name or code is unknown (names the field).
    """

    token: str
    category: int  # TRAFFIC_LIGHT or ROAD_SIGN
    attribute: int  # index into TRAFFIC_ELEMENT_ATTRIBUTES, at the image's capture time
    box_px: tuple[float, float, float, float]  # left, top, right, bottom, within the image
    instance_token: str = ""  # or track: the same in all images of a scene
    sample_token: str = ""
    sample_data_token: str = ""  # of the image, or its path
    camera: str = ""  # channel
    position_m: tuple[float, float, float] | None = None  # centre, in the world frame
    size_m: tuple[float, float, float] | None = None  # depth, width, height
    yaw_rad: float | None = None  # direction that it faces, in the world frame
    visibility: float = 1.0  # 0..1, share of its pixels that are not occluded
    lane_token: str = ""  # of the lane it governs, or of the first of several
    lane_tokens: tuple[str, ...] = ()  # of all lanes it governs
    lamps: tuple[Lamp, ...] | None = None  # the lit ones of a light; (): off; None: unknown
    is_dark: bool = False  # the image shows its lit lamps dark, between two half-waves of LEDs
    # Pixels that show the lit lamps; of a light that is off, its least visible lamp; None: unknown.
    lamp_pixels: float | None = None
    meaning: str | None = None  # of a sign, of SIGN_MEANINGS; None: only the attribute is known
    speed_limit_mps: float | None = None  # of a sign for a speed limit
    manoeuvres: tuple[str, ...] = ()  # that it governs, of MANOEUVRES; (): all or unknown
    road_user: str = "vehicle"  # of ROAD_USERS
    box_convention: str = HOUSING  # of BOX_CONVENTIONS
    relevant: bool | None = None  # to the own lane; None: unknown
    source: str = "bevstack"  # data set that the element comes from

    def __post_init__(self) -> None:
        if self.category not in (TRAFFIC_LIGHT, ROAD_SIGN):
            raise ValueError(
                f"TrafficElement.category must be {TRAFFIC_LIGHT} or {ROAD_SIGN}; "
                f"got {self.category!r}"
            )
        if not 0 <= self.attribute < len(TRAFFIC_ELEMENT_ATTRIBUTES):
            raise ValueError(
                "TrafficElement.attribute must be in 0.."
                f"{len(TRAFFIC_ELEMENT_ATTRIBUTES) - 1}; got {self.attribute!r}"
            )
        if self.meaning is not None:
            _expect_name("TrafficElement.meaning", self.meaning, SIGN_MEANINGS)
        for name in self.manoeuvres:
            _expect_name("TrafficElement.manoeuvres", name, MANOEUVRES)
        _expect_name("TrafficElement.road_user", self.road_user, ROAD_USERS)
        _expect_name("TrafficElement.box_convention", self.box_convention, BOX_CONVENTIONS)
        if self.lamp_pixels is not None and not self.lamp_pixels >= 0:
            raise ValueError(
                f"TrafficElement.lamp_pixels must be at least 0; got {self.lamp_pixels!r}"
            )

    @property
    def shows_lamps(self) -> bool:
        """Return False if the lamps are turned away, hidden or too small to be in the image."""
        return self.lamp_pixels is None or self.lamp_pixels >= MIN_LAMP_PIXELS


@dataclass(frozen=True)
class LaneCenterline:
    """The centre line of a lane.

    Fields with a default are those that only worlds of the preset ``lights`` have.
    """

    token: str
    scene_token: str
    points_m: NDArray[np.float64]  # (K, 2) in driving direction, in the world frame
    successors: tuple[str, ...] = ()  # tokens of the lanes in which it continues
    stop_line_s_m: tuple[float, ...] = ()  # arc lengths of its stop lines
    manoeuvres: tuple[str, ...] = ()  # allowed at its next junction, of MANOEUVRES


@dataclass(frozen=True)
class ElementTimeline:
    """The states of a traffic light over a scene.

    State k lasts from ``timestamp_us[k]`` to the next time. A flashing lamp has the status
    "flashing" in one state for as long as it flashes; ``lit`` gives its dark moments.
    """

    instance_token: str
    scene_token: str
    timestamp_us: NDArray[np.int64]  # (K,) ascending
    lamps: tuple[tuple[Lamp, ...], ...]  # K, the lamps that are on or flash; (): off
    flash_hz: float = 0.0  # of flashing lamps
    flash_offset_us: int = 0  # a time at which a flashing lamp turns on

    def state_at(self, timestamp_us: int) -> tuple[Lamp, ...]:
        """Return the lamps that are on or flash at a time; the first state before its start."""
        index = int(np.searchsorted(self.timestamp_us, timestamp_us, side="right")) - 1
        return self.lamps[max(index, 0)]

    def lit_at(self, timestamp_us: int) -> tuple[Lamp, ...]:
        """Return the lamps that are lit at a time: flashing ones in the first half of a period."""
        state = self.state_at(timestamp_us)
        phase = (timestamp_us - self.flash_offset_us) * 1e-6 * self.flash_hz % 1.0
        return tuple(
            Lamp(lamp.color, lamp.shape, "on") if lamp.status == "flashing" else lamp
            for lamp in state
            if lamp.status != "flashing" or phase < 0.5
        )


@dataclass(frozen=True)
class EgoLane:
    """The own vehicle's lane and intended turn in one sample."""

    sample_token: str
    lane_token: str
    manoeuvre: str  # at the next junction, of MANOEUVRES
    stop_line_m: float | None = None  # distance along the path to the next stop line


def attribute_of_lamps(lamps: tuple[Lamp, ...]) -> int:
    """Return OpenLane-V2's attribute of lit lamps: red before yellow before green, else unknown."""
    colors = {lamp.color for lamp in lamps}
    for color in _COLOR_ORDER:
        if color in colors:
            return TRAFFIC_ELEMENT_ATTRIBUTES.index(color)
    return 0


def light_color(lamps: tuple[Lamp, ...]) -> str:
    """Return the colour of a whole light, of ``vocabulary.LIGHT_COLORS``, from its lit lamps.

    Raises:
        ValueError: the lit lamps have colours that do not stand together.
    """
    colors = {lamp.color for lamp in lamps if lamp.status != "off"}
    if not colors:
        return "off"
    if colors == {"red", "yellow"}:
        return "red_yellow"
    if len(colors) == 1 and colors <= set(_COLOR_ORDER):
        return next(iter(colors))
    raise ValueError(f"lamps must show red, yellow, green or red and yellow; got {sorted(colors)}")


def _expect_name(field: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"{field} must be one of {', '.join(names)}; got {name!r}")
