"""Cues as JSON objects: their fields, and the strict way back."""

from __future__ import annotations

from typing import Any

from bevstack.evaluation.traffic.entry_fields import (
    FieldReader,
    duration,
    json_value,
    member,
    number_tuple,
    numbers,
    optional,
    probability,
    read_fields,
    text,
    tuple_of,
)
from bevstack.json_files import expect_flag, expect_integer, expect_number
from bevstack.types.cues import ADVICE, EgoCue, LampBelief, TrafficCue
from bevstack.types.traffic import Lamp
from bevstack.vocabulary import (
    LAMP_COLORS,
    LAMP_SHAPES,
    LAMP_STATUSES,
    MANOEUVRES,
    SIGN_MEANINGS,
)

KINDS = ("light", "sign")


def _timestamp(where: str, value: Any) -> int:
    return expect_integer(where, value, low=0)


def _belief(where: str, value: Any) -> LampBelief:
    values = read_fields(where, value, _BELIEF)
    return LampBelief(Lamp(**values["lamp"]), values["probability"])


def _lamp(where: str, value: Any) -> dict[str, Any]:
    return read_fields(where, value, _LAMP)


_LAMP: dict[str, FieldReader] = {
    "color": member(LAMP_COLORS),
    "shape": member(LAMP_SHAPES),
    "status": member(LAMP_STATUSES),
}
_BELIEF: dict[str, FieldReader] = {"lamp": _lamp, "probability": probability}
_TRAFFIC_CUE: dict[str, FieldReader] = {
    "id": text,
    "kind": member(KINDS),
    "timestamp_us": _timestamp,
    "state": tuple_of(_belief),
    "state_name": text,
    "state_probability": probability,
    "last_state_name": text,
    "meaning": optional(member(SIGN_MEANINGS)),
    "speed_limit_mps": optional(duration),
    "confidence": probability,
    "position_m": number_tuple(3),
    "position_cov_m2": numbers(3, 3),
    "yaw_rad": expect_number,
    "camera": optional(text),
    "box_px": optional(number_tuple(4)),
    "visible_now": expect_flag,
    "last_seen_s": duration,
    "state_since_s": duration,
    "flashing_observable": expect_flag,
    "applies_to_ego": probability,
    "applies_to": tuple_of(member(MANOEUVRES)),
    "distance_along_path_m": optional(expect_number),
    "distance_std_m": optional(duration),
    "stop_line_s_m": optional(expect_number),
    "sources": tuple_of(text),
    "map_id": optional(text),
    "in_force": expect_flag,
}
_EGO_CUE: dict[str, FieldReader] = {
    "timestamp_us": _timestamp,
    "manoeuvre": member(MANOEUVRES),
    "advice": member(ADVICE),
    "probability": probability,
    "elements": tuple_of(text),
    "reason": text,
    "distance_m": optional(expect_number),
    "last_seen_s": optional(duration),
}


def cue_to_json(cue: TrafficCue | EgoCue) -> dict[str, Any]:
    """Return a cue as a JSON object with the names of its fields."""
    entry: dict[str, Any] = json_value(cue)
    return entry


def traffic_cue_from_json(where: str, value: Any) -> TrafficCue:
    """Return the cue of a JSON object; ``where`` is its place in messages.

    Raises:
        ValueError: a field is missing, unknown or not of its kind.
    """
    return TrafficCue(**read_fields(where, value, _TRAFFIC_CUE))


def ego_cue_from_json(where: str, value: Any) -> EgoCue:
    """Return the summary of a JSON object; ``where`` is its place in messages.

    Raises:
        ValueError: a field is missing, unknown or not of its kind.
    """
    return EgoCue(**read_fields(where, value, _EGO_CUE))
