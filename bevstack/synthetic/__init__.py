"""Synthetic driving scenes in the format of nuScenes."""

from __future__ import annotations

from bevstack.synthetic.presets import PRESETS, preset
from bevstack.synthetic.spec import WorldSpec, WorldSummary
from bevstack.synthetic.world import make_world, world_is_complete

__all__ = [
    "PRESETS",
    "WorldSpec",
    "WorldSummary",
    "make_world",
    "preset",
    "world_is_complete",
]
