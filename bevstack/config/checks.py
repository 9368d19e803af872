"""Check of one field of a configuration, with a uniform error message."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

MAX_SHOWN = 240  # characters of a value in a message


def check(name: str, holds: bool, requirement: str, got: object) -> None:
    """Check that a condition on a field holds.

    Args:
        name: path of the field, such as "decoder.num_heads".
        holds: the condition.
        requirement: the condition in words, such as "be positive".
        got: value of the field.

    Raises:
        ValueError: the condition does not hold: "<name> must <requirement>; got <got>".
    """
    if not holds:
        raise ValueError(f"{name} must {requirement}; got {shown(got)}")


def check_finite_fields(
    section: str,
    config: Any,  # a dataclass
) -> None:
    """Check that every field of a section is a finite number of at least 0.

    Raises:
        ValueError: a field is not; the message names it.
    """
    for name in (field.name for field in fields(config)):
        value = getattr(config, name)
        finite = isinstance(value, int | float) and 0 <= value < math.inf
        check(f"{section}.{name}", finite, "be finite and not negative", value)


def shown(value: object) -> str:
    """Return a value as text for a message, shortened to ``MAX_SHOWN`` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python prints no numbers of more than 4,300 digits
        return f"{type(value).__name__} that is too large to print"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} ..."
