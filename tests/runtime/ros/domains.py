"""DDS domains of tests."""

from __future__ import annotations

import os

_LAST = 230  # the ports of higher ones are beyond those of UDP


def own_domain(number: int) -> int:
    """Return one of eight domains of this process: tests that run side by side do not mix."""
    return 1 + (8 * os.getpid() + number) % _LAST
