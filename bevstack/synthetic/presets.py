"""Named worlds of fixed sizes, so that figures on them can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bevstack.synthetic.spec import RICH, WorldSpec

PRESETS: Mapping[str, WorldSpec] = MappingProxyType(
    {
        # for `bevstack train-demo`, which trains on it in some minutes
        "demo": WorldSpec(train_scenes=90, val_scenes=12, test_scenes=12, samples_per_scene=5),
        # for first experiments: half an hour of training on two cores
        "small": WorldSpec(train_scenes=60, val_scenes=15, test_scenes=15, samples_per_scene=10),
        # for measurements: select on the validation scenes, use the test scenes once, at the end
        "benchmark": WorldSpec(
            train_scenes=400, val_scenes=60, test_scenes=60, samples_per_scene=10
        ),
        # for traffic lights and signs: neighbouring lanes with different states, 800x450 images
        "lights": WorldSpec(
            train_scenes=200,
            val_scenes=30,
            test_scenes=60,
            samples_per_scene=10,
            image_size=(450, 800),
            traffic=RICH,
            front_sweeps=True,
        ),
        # for lights over time: drives as long as those of nuScenes, in the front camera alone
        "lights_drives": WorldSpec(
            seed=1,
            train_scenes=0,
            val_scenes=15,
            test_scenes=90,
            samples_per_scene=40,
            image_size=(450, 800),
            traffic=RICH,
            drives=True,
        ),
        # to train lights on many different scenes: most of the sunny ones have a low sun ahead
        "lights_training": WorldSpec(
            seed=2,
            train_scenes=800,
            val_scenes=0,
            samples_per_scene=8,
            image_size=(450, 800),
            lidar_azimuths=64,
            traffic=RICH,
            front_alone=True,
            low_sun_share=0.9,
        ),
    }
)


def preset(name: str) -> WorldSpec:
    """Return the world of a name.

    Raises:
        ValueError: there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {name!r}")
    return PRESETS[name]
