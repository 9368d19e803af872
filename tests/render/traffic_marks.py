"""Hand-made cues and true elements for the drawing tests."""

from __future__ import annotations

import numpy as np

from bevstack.types.cues import EgoCue, LampBelief, TrafficCue
from bevstack.types.traffic import Lamp, TrafficElement
from bevstack.vocabulary import MANOEUVRES, ROAD_SIGN, TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT

TIME_US = 1_700_000_000_000_000


def make_cue(
    identity: str = "a",
    *,
    lamps: tuple[Lamp, ...] = (Lamp("red"),),
    name: str = "red",
    meaning: str | None = None,
    box_px: tuple[float, float, float, float] | None = (70.0, 20.0, 76.0, 40.0),
    position_m: tuple[float, float, float] = (30.0, 2.0, 5.0),
    applies: float = 0.97,
) -> TrafficCue:
    """Return the cue of a light, or of a sign if a meaning is given."""
    return TrafficCue(
        id=identity,
        kind="light" if meaning is None else "sign",
        timestamp_us=TIME_US,
        state=tuple(LampBelief(lamp, 0.98) for lamp in lamps) if meaning is None else (),
        state_name=name,
        state_probability=0.98,
        last_state_name=name,
        meaning=meaning,
        speed_limit_mps=13.9 if meaning == "speed_limit" else None,
        confidence=0.91,
        position_m=position_m,
        position_cov_m2=np.eye(3),
        yaw_rad=np.pi,
        camera=None if box_px is None else "CAM_FRONT",
        box_px=box_px,
        visible_now=box_px is not None,
        last_seen_s=0.0 if box_px is not None else 0.4,
        state_since_s=3.0,
        flashing_observable=False,
        applies_to_ego=applies,
        applies_to=("straight",) if applies >= 0.5 else (),
        distance_along_path_m=position_m[0],
        distance_std_m=1.0,
        stop_line_s_m=None,
        sources=("CAM_FRONT",),
        map_id=None,
    )


def make_ego_cues(advice: str = "stop", elements: tuple[str, ...] = ("a",)) -> tuple[EgoCue, ...]:
    """Return one summary for each manoeuvre; all but the first are unknown."""
    return tuple(
        EgoCue(
            timestamp_us=TIME_US,
            manoeuvre=name,
            advice=advice if index == 0 else "unknown",
            probability=0.97 if index == 0 else 0.0,
            elements=elements if index == 0 else (),
            reason=f"{advice}: the light for your lane is red, 31 m ahead, seen now, 0.97"
            if index == 0
            else "no light seen",
            distance_m=31.0 if index == 0 else None,
            last_seen_s=0.0 if index == 0 else None,
        )
        for index, name in enumerate(MANOEUVRES)
    )


def make_element(
    identity: str = "t",
    *,
    lamps: tuple[Lamp, ...] | None = (Lamp("red"),),
    attribute: str = "red",
    meaning: str | None = None,
    lane_tokens: tuple[str, ...] = ("own",),
    manoeuvres: tuple[str, ...] = (),
) -> TrafficElement:
    """Return a true light 30 m ahead of (100, 50) in the world, or a sign if a meaning is given."""
    return TrafficElement(
        token=f"row of {identity}",
        category=TRAFFIC_LIGHT if meaning is None else ROAD_SIGN,
        attribute=TRAFFIC_ELEMENT_ATTRIBUTES.index(attribute),
        box_px=(70.0, 20.0, 76.0, 40.0),
        instance_token=identity,
        camera="CAM_FRONT",
        position_m=(130.0, 52.0, 5.0),
        size_m=(0.3, 0.3, 1.0),
        yaw_rad=np.pi,
        lane_token=lane_tokens[0] if lane_tokens else "",
        lane_tokens=lane_tokens,
        lamps=lamps if meaning is None else None,
        meaning=meaning,
        manoeuvres=manoeuvres,
    )
