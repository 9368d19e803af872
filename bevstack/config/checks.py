"""Check of one field of a configuration, with a uniform error message."""

from __future__ import annotations


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
        raise ValueError(f"{name} must {requirement}; got {got!r}")
