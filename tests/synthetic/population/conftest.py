"""Scenes without images, built once for all tests of this folder."""

from __future__ import annotations

import pytest

from bevstack.synthetic import WorldSpec
from bevstack.synthetic.scene import Scene, build_scene


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """Build 40 scenes of 15 seconds, some with junctions: 16 s of processor time."""
    spec = WorldSpec(seed=8, train_scenes=40, samples_per_scene=31)
    return [build_scene(spec, name) for name in spec.split_scenes["train"]]
