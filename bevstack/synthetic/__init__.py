"""Synthetic driving scenes in nuScenes' own format: streets, objects, renderer, tables."""

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
