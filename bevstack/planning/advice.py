"""Decision from relevant traffic lights to one advice for each manoeuvre of the vehicle.

| lights that govern the manoeuvre, first row that fits | advice |
| --- | --- |
| front camera lost | unknown |
| one is red, red and yellow, or flashing red | stop |
| one is yellow | caution |
| one is not known, or was not seen for too long | unknown |
| one is off, or flashes yellow or green | caution |
| all are green, and one of them surely governs | go |
| all are green, none surely governs | unknown |
| there is none | unknown |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bevstack.config.cues import CueConfig
from bevstack.types.cues import CAUTION, GO, STOP, UNKNOWN, EgoCue, TrafficCue
from bevstack.types.memory import Reset

# States of a light and their advice, the first one wins.
_TABLE = (
    (("red", "red_yellow", "flashing_red"), STOP),
    (("yellow",), CAUTION),
    (("unknown",), UNKNOWN),
    (("off", "flashing_yellow", "flashing_green"), CAUTION),
    (("green",), GO),
)
_RESETS = {
    Reset.SCENE: "the scene changed",
    Reset.TIME: "time went back",
    Reset.GAP: "images came after a gap",
    Reset.JUMP: "the pose jumped",
    Reset.RIG: "the cameras changed",
}


class RelevantLight(NamedTuple):
    """A light and the probability that it governs a manoeuvre."""

    cue: TrafficCue
    probability: float  # 0..1


def advise(
    lights: Sequence[RelevantLight],
    *,
    manoeuvre: str,
    timestamp_us: int,
    front_lost: bool,
    reset: Reset,
    config: CueConfig,
) -> EgoCue:
    """Return the advice for a manoeuvre; the order of the lights does not matter.

    Args:
        lights: all lights, with the probability that each governs the manoeuvre.
        manoeuvre: of ``vocabulary.MANOEUVRES``.
        timestamp_us: of the frame.
        front_lost: True if no front camera gives images.
        reset: the reason why no earlier frame was used; the advice names it.
        config: probabilities from which a light counts.
    """
    advice, reason = UNKNOWN, "no light seen"
    deciding: tuple[RelevantLight, ...] = ()
    if front_lost:
        reason = "front camera lost"
    elif lights:
        advice, deciding, reason = _decide(_ordered(lights), config)
    note = f"; memory cleared: {_RESETS[reset]}" if reset in _RESETS else ""
    first = deciding[0] if deciding else None
    certainty = 0.0 if first is None or advice == UNKNOWN else _certainty(first)
    return EgoCue(
        timestamp_us=timestamp_us,
        manoeuvre=manoeuvre,
        advice=advice,
        probability=certainty,
        elements=tuple(light.cue.id for light in deciding),
        reason=f"{advice}: {reason}{note}",
        distance_m=None if first is None else _distance(first.cue),
        last_seen_s=None if first is None else first.cue.last_seen_s,
    )


def _decide(
    lights: list[RelevantLight], config: CueConfig
) -> tuple[str, tuple[RelevantLight, ...], str]:
    relevant = [light for light in lights if light.probability >= config.relevant]
    if not relevant:
        return UNKNOWN, (), "no light for this manoeuvre"
    for states, advice in _TABLE:
        deciding = tuple(light for light in relevant if light.cue.state_name in states)
        if not deciding:
            continue
        if advice == GO:
            sure = tuple(r for r in deciding if r.probability >= config.relevant_go)
            if not sure:
                place = describe_place(deciding[0])
                return UNKNOWN, deciding, f"a green light may be for another lane, {place}"
            deciding = sure
        return advice, deciding, describe(deciding[0])
    raise ValueError(f"state_name must be known to the table; got {relevant[0].cue.state_name!r}")


def describe(light: RelevantLight) -> str:
    """Return a phrase of a light: state, distance, time since its last image, certainty."""
    state = light.cue.state_name.replace("red_yellow", "red and yellow").replace("_", " ")
    if light.cue.state_name == "unknown":
        last = light.cue.last_state_name.replace("red_yellow", "red and yellow").replace("_", " ")
        state = "unknown" if last == "unknown" else f"unknown, last {last}"
    if light.cue.state_name == "off":
        state = "off, as at a junction without signals"
    return f"the light for your lane is {state}, {describe_place(light)}"


def describe_place(light: RelevantLight) -> str:
    """Return distance, time since the last image and certainty of a light."""
    distance = _distance(light.cue)
    where = "" if distance is None else f"{distance:.0f} m ahead, "
    seen = "seen now" if light.cue.visible_now else f"not seen for {light.cue.last_seen_s:.1f} s"
    return f"{where}{seen}, {_certainty(light):.2f}"


def _certainty(light: RelevantLight) -> float:
    return light.probability * light.cue.state_probability


def _distance(cue: TrafficCue) -> float | None:
    return cue.stop_line_s_m if cue.stop_line_s_m is not None else cue.distance_along_path_m


def _ordered(lights: Sequence[RelevantLight]) -> list[RelevantLight]:
    """Return the lights, the most certain first; equal ones by their ids."""
    return sorted(lights, key=lambda light: (-_certainty(light), light.cue.id))
