"""A small language of JSON kinds, independent of bevstack, to judge accepted documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

# Returns the first fault of a value as "<place> is ...", or None.
Kind = Callable[[str, Any], str | None]


def number(low: float = -math.inf, high: float = math.inf, *, above: float = -math.inf) -> Kind:
    """Return the kind of finite numbers from ``low`` to ``high`` and greater than ``above``."""

    def check(place: str, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"{place} is {value!r:.60}, no number"
        good = math.isfinite(value) and low <= value <= high and value > above
        return None if good else f"{place} is {value!r:.60}"

    return check


def integer(low: int = -(2**63), high: int = 2**63 - 1) -> Kind:
    """Return the kind of whole numbers in a range."""

    def check(place: str, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            return f"{place} is {value!r:.60}, no whole number from {low} to {high}"
        return None

    return check


def text(place: str, value: Any) -> str | None:
    """Accept printable text that is not empty."""
    good = isinstance(value, str) and value.isprintable() and 0 < len(value) < 5000
    return None if good else f"{place} is {value!r:.60}, no printable text"


def string(place: str, value: Any) -> str | None:
    """Accept any string."""
    return None if isinstance(value, str) else f"{place} is {value!r:.60}, no string"


def flag(place: str, value: Any) -> str | None:
    """Accept a boolean."""
    return None if isinstance(value, bool) else f"{place} is {value!r:.60}, no boolean"


def null(place: str, value: Any) -> str | None:
    """Accept null."""
    return None if value is None else f"{place} is {value!r:.60}, not null"


def anything(place: str, value: Any) -> str | None:
    """Accept any value."""
    return None


def one_of(*kinds: Kind) -> Kind:
    """Return the kind of values that one of the kinds accepts."""

    def check(place: str, value: Any) -> str | None:
        faults = [kind(place, value) for kind in kinds]
        return None if None in faults else faults[-1]

    return check


def members(*values: str) -> Kind:
    """Return the kind of some texts."""

    def check(place: str, value: Any) -> str | None:
        good = isinstance(value, str) and value in values
        return None if good else f"{place} is {value!r:.60}"

    return check


def listing(kind: Kind, length: int | None = None, at_most: int | None = None) -> Kind:
    """Return the kind of lists of a kind."""

    def check(place: str, value: Any) -> str | None:
        if not isinstance(value, list):
            return f"{place} is {value!r:.60}, no list"
        if length not in (None, len(value)) or (at_most is not None and len(value) > at_most):
            return f"{place} has {len(value)} values"
        faults = (kind(f"{place}[{index}]", item) for index, item in enumerate(value))
        return next(filter(None, faults), None)

    return check


def mapping(kind: Kind) -> Kind:
    """Return the kind of objects with any keys and values of a kind."""

    def check(place: str, value: Any) -> str | None:
        if not isinstance(value, dict):
            return f"{place} is {value!r:.60}, no object"
        return next(filter(None, (kind(f"{place}.{key}", v) for key, v in value.items())), None)

    return check


def record(
    required: Mapping[str, Kind], optional: Mapping[str, Kind] | None = None, *, open: bool = False
) -> Kind:
    """Return the kind of objects with these fields; an open one may have more."""
    optional = optional or {}

    def check(place: str, value: Any) -> str | None:
        if not isinstance(value, dict):
            return f"{place} is {value!r:.60}, no object"
        missing = [name for name in required if name not in value]
        unknown = [name for name in value if name not in required and name not in optional]
        if missing or (unknown and not open):
            return f"{place} lacks {missing} or has {unknown!r:.60}"
        kinds = {**required, **optional}
        faults = (kinds[name](f"{place}.{name}", v) for name, v in value.items() if name in kinds)
        return next(filter(None, faults), None)

    return check
