"""Traffic lights and signs to draw: true and predicted ones in one form."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bevstack.render.colors import RGB, STATE_COLORS
from bevstack.types.cues import EgoCue, TrafficCue
from bevstack.types.traffic import Lamp, TrafficElement, light_color
from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT

Points = NDArray[np.float64]
_RELEVANT = 0.5  # probability from which an element counts as governing the own lane


@dataclass(frozen=True, kw_only=True)
class ElementMark:
    """A traffic light or sign to draw; places are in the ego frame."""

    kind: str  # "light" or "sign"
    name: str  # its state or meaning, such as "flashing yellow" or "no left turn"
    lamps: tuple[Lamp, ...] = ()  # of a light, those that are lit or flash
    meaning: str = ""  # of a sign, of SIGN_MEANINGS
    camera: str = ""  # channel of the box
    box_px: tuple[float, float, float, float] | None = None  # of the image as given
    position_m: tuple[float, float, float] | None = None
    yaw_rad: float | None = None  # direction that it faces
    probability: float | None = None  # of the name; None: a true element
    governs: bool = False  # the own lane
    lanes: tuple[Points, ...] = ()  # (K, 2) centre lines of the lanes that it governs
    stop_line_m: float | None = None  # distance along the own path
    key: str = ""  # identity

    @property
    def color(self) -> RGB:
        """Return the colour of its state."""
        if self.kind == "sign":
            return STATE_COLORS["sign"]
        return STATE_COLORS[_state_color(self.lamps, self.name)]

    @property
    def distance_m(self) -> float | None:
        """Return the distance on the ground from the vehicle; None without a place."""
        return None if self.position_m is None else math.hypot(*self.position_m[:2])

    @property
    def caption(self) -> str:
        """Return the name, the distance and the probability, as far as they are known."""
        parts = [self.name]
        if self.distance_m is not None:
            parts.append(f"{self.distance_m:.0f} m")
        if self.probability is not None:
            parts.append(f"{self.probability:.2f}")
        return " ".join(parts)

    def scaled(self, factor: float) -> ElementMark:
        """Return the mark with its box in the pixels of a resized image."""
        if self.box_px is None:
            return self
        left, top, right, bottom = (factor * side for side in self.box_px)
        return replace(self, box_px=(left, top, right, bottom))


@dataclass(frozen=True, kw_only=True)
class TrafficLayer:
    """All that is drawn of the lights and signs around a vehicle in one frame."""

    predicted: tuple[ElementMark, ...] | None = None  # None: nothing was predicted
    true: tuple[ElementMark, ...] = ()
    ego_cues: tuple[EgoCue, ...] = ()  # one for each manoeuvre
    manoeuvre: str = ""  # the commanded one; "": unknown
    true_state: str = ""  # state of the lights for the own lane; "": none or unknown

    @property
    def marks(self) -> tuple[ElementMark, ...]:
        """Return the marks that are drawn with labels: predicted ones, or true ones alone."""
        return self.true if self.predicted is None else self.predicted


def cue_marks(cues: Sequence[TrafficCue], manoeuvre: str = "") -> tuple[ElementMark, ...]:
    """Return the marks of cues, in their order; they govern the vehicle for a manoeuvre.

    Without a manoeuvre, it is the one that was commanded when the cues were computed.
    """
    return tuple(_cue_mark(cue, manoeuvre) for cue in cues)


def true_marks(
    elements: Sequence[TrafficElement],
    ego_from_world: NDArray[np.float64],  # (4, 4)
    lanes: dict[str, Points],  # (K, 2 or 3) centre lines by token, in the world frame
    own_lanes: Collection[str] = (),  # tokens of the own lane and those it continues in
    manoeuvre: str = "",
) -> tuple[ElementMark, ...]:
    """Return the marks of a frame's true elements.

    An element governs the vehicle if it governs an own lane and the manoeuvre, or any if none is
    known.
    """
    marks = []
    for element in elements:
        tokens = element.lane_tokens or ((element.lane_token,) if element.lane_token else ())
        governs = any(token in own_lanes for token in tokens) and (
            not manoeuvre or not element.manoeuvres or manoeuvre in element.manoeuvres
        )
        marks.append(_true_mark(element, tokens, ego_from_world, lanes, governs))
    return tuple(marks)


def _cue_mark(cue: TrafficCue, manoeuvre: str) -> ElementMark:
    is_light = cue.kind == "light"
    lamps = tuple(belief.lamp for belief in cue.state if belief.lamp.status != "off")
    name = " ".join((cue.state_name, *_shapes(lamps))) if is_light else cue.meaning or "sign"
    if cue.speed_limit_mps is not None:
        name = f"speed limit {cue.speed_limit_mps * 3.6:.0f}"
    governs = manoeuvre in cue.applies_to if manoeuvre else cue.applies_to_ego >= _RELEVANT
    return ElementMark(
        kind=cue.kind,
        name=_words(name),
        lamps=lamps,
        meaning=cue.meaning or "",
        camera=cue.camera or "",
        box_px=cue.box_px,
        position_m=cue.position_m,
        yaw_rad=cue.yaw_rad,
        probability=cue.state_probability if is_light else cue.confidence,
        governs=governs,
        stop_line_m=cue.distance_along_path_m if cue.stop_line_s_m is None else cue.stop_line_s_m,
        key=cue.id,
    )


def _true_mark(
    element: TrafficElement,
    tokens: Sequence[str],
    ego_from_world: NDArray[np.float64],
    lanes: dict[str, Points],
    governs: bool,
) -> ElementMark:
    position = yaw = None
    if element.position_m is not None:
        x, y, z = (ego_from_world[:3, :3] @ element.position_m + ego_from_world[:3, 3]).tolist()
        position = (x, y, z)
    if element.yaw_rad is not None:
        yaw = element.yaw_rad + math.atan2(ego_from_world[1, 0], ego_from_world[0, 0])
    is_light = element.category == TRAFFIC_LIGHT
    rotation, offset = ego_from_world[:2, :2], ego_from_world[:2, 3]
    known = [lanes[token][:, :2] @ rotation.T + offset for token in tokens if token in lanes]
    return ElementMark(
        kind="light" if is_light else "sign",
        name=_light_name(element) if is_light else _sign_name(element),
        lamps=_lamps(element) if is_light else (),
        meaning="" if is_light else _meaning(element),
        camera=element.camera,
        box_px=element.box_px,
        position_m=position,
        yaw_rad=yaw,
        governs=governs,
        lanes=tuple(known),
        key=element.instance_token,
    )


def _lamps(element: TrafficElement) -> tuple[Lamp, ...]:
    if element.lamps is not None:
        return element.lamps
    color = TRAFFIC_ELEMENT_ATTRIBUTES[element.attribute]
    return (Lamp(color),) if color in ("red", "yellow", "green") else ()


def _light_name(element: TrafficElement) -> str:
    lamps = _lamps(element)
    if not lamps:
        return "off" if element.lamps is not None else "unknown"
    flashing = "flashing " if any(lamp.status == "flashing" for lamp in lamps) else ""
    return _words(flashing + " ".join((_state_color(lamps, ""), *_shapes(lamps))))


def _shapes(lamps: Sequence[Lamp]) -> list[str]:
    """Return the shapes that are worth a word."""
    return sorted({lamp.shape for lamp in lamps} - {"circle", "unknown"})


def _meaning(element: TrafficElement) -> str:
    if element.meaning is not None:
        return element.meaning
    name = TRAFFIC_ELEMENT_ATTRIBUTES[element.attribute]
    return "other" if name == "unknown" else name


def _sign_name(element: TrafficElement) -> str:
    if element.speed_limit_mps is not None:
        return f"speed limit {element.speed_limit_mps * 3.6:.0f}"
    meaning = _meaning(element)
    return "sign" if meaning == "other" else _words(meaning)


def _state_color(lamps: Sequence[Lamp], name: str) -> str:
    """Return the colour of a light, a key of ``STATE_COLORS``; lamps that disagree are unknown."""
    if lamps:
        if any(lamp.color == "white" for lamp in lamps):
            return "white"
        try:
            return light_color(tuple(lamps))
        except ValueError:
            return "unknown"
    return "off" if name == "off" else "unknown"


def _words(name: str) -> str:
    return name.replace("red_yellow", "red+yellow").replace("_", " ")
