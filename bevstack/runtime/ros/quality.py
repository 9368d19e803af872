"""Qualities of service of topics."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bevstack.json_files import shorten


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Quality of service of a topic.

    A reliable subscriber gets nothing from a best-effort publisher, and one that wants latched
    messages nothing from a volatile one; the other way round works.
    """

    depth: int
    reliable: bool
    latched: bool = False  # "transient local": late subscribers get the last messages


SENSOR_DATA = Quality(depth=5, reliable=False)
RESULTS = Quality(depth=1, reliable=True)
SUBSCRIPTION, PUBLISHER = "subscription", "publisher"
_MAX_DEPTH = 10_000
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "reliability": ("best_effort", "reliable"),
    "durability": ("volatile", "transient_local"),
    "history": ("keep_last",),
}


def overridden(default: Quality, topic: str, side: str, overrides: Mapping[str, object]) -> Quality:
    """Return the quality of a topic with the values that parameters give.

    Args:
        default: without parameters.
        topic: its name.
        side: SUBSCRIPTION or PUBLISHER.
        overrides: values by TOPIC.SIDE.POLICY, as ROS 2 names them after "qos_overrides.".

    Raises:
        ValueError: a value of this topic and side is wrong.
    """
    prefix, found = f"{topic}.{side}.", default
    for name, value in overrides.items():
        if not name.startswith(prefix):
            continue
        policy = name.removeprefix(prefix)
        if policy == "depth":
            found = replace(found, depth=_depth(name, value))
        elif policy not in _CHOICES:
            raise ValueError(
                f"parameter qos_overrides.{name} must be depth, {', '.join(_CHOICES)}; got "
                f"{shorten(policy)}"
            )
        elif value not in _CHOICES[policy]:
            raise ValueError(
                f"parameter qos_overrides.{name} must be {' or '.join(_CHOICES[policy])}; got "
                f"{shorten(value)}"
            )
        elif policy == "reliability":
            found = replace(found, reliable=value == "reliable")
        elif policy == "durability":
            found = replace(found, latched=value == "transient_local")
    return found


def check_topics_of(
    overrides: Mapping[str, object], subscribed: list[str], published: list[str]
) -> None:
    """Check that each value is of a topic that the node subscribes or publishes.

    Raises:
        ValueError: one is not; the message names the nearest one.
    """
    known = [f"{topic}.{SUBSCRIPTION}" for topic in subscribed]
    known += [f"{topic}.{PUBLISHER}" for topic in published]
    for name in overrides:
        start = name.rpartition(".")[0]
        if start not in known:
            near = difflib.get_close_matches(start, known, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise ValueError(
                "parameter qos_overrides must have TOPIC.subscription or TOPIC.publisher of the "
                f"node; got {shorten(name)}{hint}"
            )


def _depth(name: str, value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or not 1 <= int(text) <= _MAX_DEPTH:
        raise ValueError(
            f"parameter qos_overrides.{name} must be a whole number from 1 to {_MAX_DEPTH}; got "
            f"{shorten(value)}"
        )
    return int(text)
