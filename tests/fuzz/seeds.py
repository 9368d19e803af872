"""Seeds of inputs that once failed, by reader; the usual tests read them again."""

from __future__ import annotations

SEEDS: dict[str, tuple[int, ...]] = {}
