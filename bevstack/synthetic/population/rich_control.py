"""Lights, signs and advertisements of the preset `lights`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.population.traffic_control import TrafficControl
from bevstack.synthetic.renderer.primitives import Pattern
from bevstack.synthetic.streets.light_cycle import Signals
from bevstack.synthetic.streets.signal_plan import Colours, lamps_of_state
from bevstack.types.traffic import ElementTimeline, Lamp, attribute_of_lamps
from bevstack.vocabulary import LAMP_SHAPES

VERTICAL, HORIZONTAL_RED_LEFT, HORIZONTAL_RED_RIGHT, PEDESTRIAN = range(4)  # housings
_BITS = {"red": 1, "yellow": 2, "green": 4}
_LAMPS = {"red": 0, "yellow": 1, "green": 2}  # columns of `Picture.lamp_px`


@dataclass(frozen=True, kw_only=True)
class LightStates:
    """The states of a light over a scene; times are whole microseconds after the first sample."""

    times_us: tuple[int, ...]
    colours: tuple[Colours, ...]
    flash_hz: float
    flash_offset_us: int = 0

    def timeline(
        self, shape: str, start_us: int = 0, instance_token: str = "", scene_token: str = ""
    ) -> ElementTimeline:
        """Return the states as a timeline that starts at a time."""
        return ElementTimeline(
            instance_token,
            scene_token,
            np.array(self.times_us, np.int64) + start_us,
            tuple(lamps_of_state(colours, shape) for colours in self.colours),
            self.flash_hz,
            self.flash_offset_us + start_us,
        )


@dataclass(frozen=True, kw_only=True)
class RichLight(TrafficControl):
    """A traffic light with its timeline."""

    states: LightStates
    lanes: tuple[int, ...]  # that it governs; the first is `lane`; (): for pedestrians
    junction: int
    movement: int
    shape: str = "circle"
    housing: int = VERTICAL
    road_user: str = "vehicle"
    manoeuvres: tuple[str, ...] = ()
    colour: tuple[float, float, float] = (0.06, 0.06, 0.06)
    rim: bool = False
    mains_hz: float = 0.0  # of lamps that are dark in part of each half-wave; 0: never dark
    dark_share: float = 0.0  # of a half-wave

    def lit(self, time_s: float) -> tuple[Lamp, ...]:
        """Return the lamps that are lit by their state at a time."""
        return self.states.timeline(self.shape).lit_at(round(time_s * 1e6))

    def is_dark(self, time_s: float) -> bool:
        """Return True if an exposure at this time falls into the dark part of a half-wave."""
        return self.mains_hz > 0.0 and (time_s * self.mains_hz) % 1.0 < self.dark_share

    def lamp_pixels(
        self,
        time_s: float,
        pixels: NDArray[np.float64],  # (3,) that show its red, yellow and green lamp
    ) -> float:
        """Return the pixels that show the lamps which are lit by their state at a time.

        Of a light that is off, return those of the lamp that is shown least: unless all of them are
        seen, the light may be on.
        """
        lit = [_LAMPS[lamp.color] for lamp in self.lit(time_s)]
        if lit:
            return float(pixels[lit].sum())
        own = [0, 2] if self.housing == PEDESTRIAN else [0, 1, 2]
        return float(pixels[own].min())

    def attribute(self, signals: Signals, time_s: float) -> int:
        """Return OpenLane-V2's attribute of the lit lamps at a time; 0 if none is lit."""
        return attribute_of_lamps(self.lit(time_s))

    def paint_state(self, signals: Signals, time_s: float) -> float:
        """Return the sum of the codes of the lamps that are bright in an exposure."""
        if self.is_dark(time_s):
            return 0.0
        return float(sum(_BITS[lamp.color] for lamp in self.lit(time_s)))

    def pattern(self) -> Pattern:
        """Return the paint of the face."""
        return Pattern.LIGHT_HEAD

    def paint(self, number: int) -> tuple[float, ...]:
        """Return both colours, state and seed of the face's paint."""
        codes = (float(self.housing), float(LAMP_SHAPES.index(self.shape)), float(self.rim))
        return (*codes, *self.colour, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class RichSign(TrafficControl):
    """A traffic sign with its meaning."""

    name: str  # of vocabulary.SIGN_MEANINGS
    speed_limit_kmh: int = 0  # of a speed limit

    def pattern(self) -> Pattern:
        """Return the paint of the face."""
        return Pattern.NUMBERED_SIGN

    def paint(self, number: int) -> tuple[float, ...]:
        """Return both colours, state and seed of the face's paint."""
        return (float(self.speed_limit_kmh), 0.0, 0.0, 0.1, 0.1, 0.1, 0.0, 1.0)
