"""A small world and a built scene for all tests of this folder."""

from pathlib import Path

import pytest

from bevstack.synthetic import WorldSpec, make_world
from bevstack.synthetic.scene import Scene, build_scene
from tests.small_world import build_once

# Many short scenes, not few long ones: a prior learns from the number of layouts.
SMALL = WorldSpec(
    seed=11, train_scenes=36, val_scenes=10, samples_per_scene=4, image_size=(90, 160)
)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of the world of SMALL, which the workers of one run share."""
    folder = build_once(
        tmp_path_factory, "synthetic_world", lambda folder: make_world(folder / "world", SMALL)
    )
    return folder / "world"


@pytest.fixture(scope="session")
def devkit(world: Path):
    """Load the world with nuscenes-devkit."""
    from nuscenes import NuScenes

    return NuScenes(SMALL.version, str(world), verbose=False)


@pytest.fixture(scope="session")
def scene() -> Scene:
    """Build a scene of ten seconds at 400x225, long enough for stops and turns."""
    return build_scene(WorldSpec(seed=5, samples_per_scene=21), "scene-2003")
