"""Traffic lights and signs as OSI's DetectedTrafficLight and DetectedTrafficSign.

A light gives one object a lamp, as OSI has it. The id of its first lamp is the lower half of the
cue's UUID, and those of further lamps follow it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bevstack.types.cues import TrafficCue

# TrafficLight.Classification.Color, Icon and Mode.
COLORS = MappingProxyType({"unknown": 0, "red": 2, "yellow": 3, "green": 4, "white": 6})
ICONS = MappingProxyType(
    {
        "unknown": 0,
        "circle": 2,
        "straight": 3,
        "left": 4,
        "right": 7,
        "slight_left": 5,
        "slight_right": 8,
        "u_turn": 1,  # OTHER
        "pedestrian": 15,
        "bicycle": 18,
        "tram": 22,
    }
)
MODES = MappingProxyType({"unknown": 0, "off": 2, "on": 3, "flashing": 4})
# TrafficSign.MainSign.Classification.Type; OTHER 1 where OSI has no type.
OTHER = 1
SIGN_TYPES = MappingProxyType(
    {
        "other": OTHER,
        "go_straight": 22,
        "turn_left": 20,
        "turn_right": 21,
        "no_left_turn": OTHER,
        "no_right_turn": OTHER,
        "u_turn": 49,
        "no_u_turn": 47,
        "slight_left": OTHER,
        "slight_right": OTHER,
        "stop": 17,
        "speed_limit": 52,
    }
)
# Country and code of signs without a type: those of the United States' manual (MUTCD).
SIGN_CODES = MappingProxyType({"no_left_turn": ("US", "R3-2"), "no_right_turn": ("US", "R3-1")})
KILOMETER_PER_HOUR, KMH_FROM_MPS = 3, 3.6


def add_traffic(
    data: Any,
    cues: Iterable[TrafficCue],
    shift: NDArray[np.float64],  # (3,) metres, from the ego frame to the sensor's
) -> None:
    """Add the lights and signs of a frame to a SensorData."""
    for cue in cues:
        if cue.kind == "light":
            _add_light(data, cue, shift)
        else:
            _add_sign(data, cue, shift)


def set_vector(message: Any, values: NDArray[np.float64]) -> None:
    """Set a Vector3d."""
    message.x, message.y, message.z = values.tolist()


def cue_id(cue: TrafficCue) -> int:
    """Return the number of a cue: the lower 64 bits of its UUID, or of one made of its id."""
    try:
        return uuid.UUID(cue.id).int & ((1 << 64) - 1)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, cue.id).int & ((1 << 64) - 1)


def _add_light(data: Any, cue: TrafficCue, shift: NDArray[np.float64]) -> None:
    lamps = [
        (
            COLORS[belief.lamp.color],
            ICONS[belief.lamp.shape],
            MODES[belief.lamp.status],
            belief.probability,
        )
        for belief in cue.state
    ]
    if not lamps:  # off, or unknown
        mode = MODES["off" if cue.state_name == "off" else "unknown"]
        lamps = [(0, 0, mode, cue.state_probability)]
    for number, (color, icon, mode, probability) in enumerate(lamps):
        light = data.traffic_light.add()
        _set_header(light.header, cue, number)
        _set_base(light, cue, shift)
        candidate = light.candidate.add(probability=probability)
        kind = candidate.classification
        kind.color, kind.icon, kind.mode = color, icon, mode


def _add_sign(data: Any, cue: TrafficCue, shift: NDArray[np.float64]) -> None:
    sign = data.traffic_sign.add()
    _set_header(sign.header, cue, 0)
    _set_base(sign.main_sign, cue, shift)
    kind = sign.main_sign.candidate.add(probability=1.0).classification
    meaning = cue.meaning or "other"
    kind.type = SIGN_TYPES[meaning]
    if meaning in SIGN_CODES:
        kind.country, kind.code = SIGN_CODES[meaning]
    if cue.speed_limit_mps is not None:
        kind.value.value = cue.speed_limit_mps * KMH_FROM_MPS
        kind.value.value_unit = KILOMETER_PER_HOUR


def _set_header(header: Any, cue: TrafficCue, number: int) -> None:
    header.tracking_id.value = (cue_id(cue) + number) % (1 << 64)
    header.existence_probability = cue.confidence
    header.measurement_state = 2 if cue.visible_now else 3  # MEASURED, PREDICTED


def _set_base(item: Any, cue: TrafficCue, shift: NDArray[np.float64]) -> None:
    """Set position and heading, and the deviations of the position; the size is not known."""
    set_vector(item.base.position, np.array(cue.position_m) + shift)
    item.base.orientation.yaw = cue.yaw_rad
    set_vector(item.base_rmse.position, np.sqrt(np.diagonal(cue.position_cov_m2)))
