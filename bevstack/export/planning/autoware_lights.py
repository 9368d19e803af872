"""Traffic lights as Autoware's TrafficLightGroup."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import Any

from bevstack.export.messages.store import MessageStore
from bevstack.export.planning.scene import PlanningFrame
from bevstack.types.cues import TrafficCue

# Ids of groups: of the map's elements alone, or for lights without one a hash of the track's id.
MAP_IDS = ("map", "hash")

UNKNOWN = 0
COLORS = MappingProxyType({"unknown": UNKNOWN, "red": 1, "yellow": 2, "green": 3, "white": 4})
SHAPES = MappingProxyType(
    {"circle": 1, "left": 2, "right": 3, "straight": 4, "slight_left": 5, "slight_right": 6}
)
STATUSES = MappingProxyType({"unknown": UNKNOWN, "off": 1, "on": 2, "flashing": 3})
_HIGHEST = (1 << 63) - 1


def make_light_groups(frame: PlanningFrame, store: MessageStore, *, hashed: bool) -> list[Any]:
    """Return one group a light with an id, with one element a lamp.

    A light without a lit lamp has one element: off if it was seen to be off, else unknown. Shapes
    that Autoware lacks (u_turn, pedestrian, bicycle, tram) are UNKNOWN.

    Args:
        frame: the frame with its cues.
        store: the types.
        hashed: give lights without a map id the hash of their track's id.
    """
    has_predictions = store.autoware != "1.1"
    predictions: dict[str, list[Any]] = {"predictions": []} if has_predictions else {}
    groups = []
    for cue in frame.cues:
        number = group_id(cue, hashed=hashed) if cue.kind == "light" else None
        if number is None:
            continue
        groups.append(
            store["autoware_perception_msgs/TrafficLightGroup"](
                traffic_light_group_id=number, elements=_elements(cue, store), **predictions
            )
        )
    return groups


def group_id(cue: TrafficCue, *, hashed: bool) -> int | None:
    """Return a light's id in the map; else None, or a positive hash of its track's id."""
    text = cue.map_id
    if text is not None and text.isascii() and text.isdigit() and int(text) <= _HIGHEST:
        return int(text)
    if not hashed:
        return None
    digest = hashlib.sha256((text or cue.id).encode()).digest()
    return int.from_bytes(digest[:8], "little") & _HIGHEST


def _elements(cue: TrafficCue, store: MessageStore) -> list[Any]:
    lamps = [
        (
            COLORS[belief.lamp.color],
            SHAPES.get(belief.lamp.shape, UNKNOWN),
            STATUSES[belief.lamp.status],
            belief.probability,
        )
        for belief in cue.state
    ]
    if not lamps:
        status = STATUSES["off"] if cue.state_name == "off" else UNKNOWN
        lamps = [(UNKNOWN, UNKNOWN, status, cue.state_probability)]
    kind = store["autoware_perception_msgs/TrafficLightElement"]
    return [
        kind(color=color, shape=shape, status=status, confidence=confidence)
        for color, shape, status, confidence in lamps
    ]
