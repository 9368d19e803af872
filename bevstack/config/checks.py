"""The one form of a configuration error."""

from __future__ import annotations


def check(name: str, holds: bool, wanted: str, got: object) -> None:
    """Raises unless a condition on a field holds.

    Raises:
        ValueError: "<name> must <wanted>; got <got>".
    """
    if not holds:
        raise ValueError(f"{name} must {wanted}; got {got!r}")
