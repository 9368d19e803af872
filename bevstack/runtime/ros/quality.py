"""Qualities of service of topics."""

from __future__ import annotations

from dataclasses import dataclass


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
