"""Worlds of agreed sizes: by name, so that figures on them can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bevstack.synthetic.spec import WorldSpec

PRESETS: Mapping[str, WorldSpec] = MappingProxyType(
    {
        # what `bevstack train-demo` trains on in some minutes
        "demo": WorldSpec(train_scenes=90, val_scenes=12, test_scenes=12, samples_per_scene=5),
        # to try things on: half an hour of two cores learns something from it
        "small": WorldSpec(train_scenes=60, val_scenes=15, test_scenes=15, samples_per_scene=10),
        # to measure on; validation for choices, the test scenes once, at the end
        "benchmark": WorldSpec(
            train_scenes=400, val_scenes=60, test_scenes=60, samples_per_scene=10
        ),
    }
)


def preset(name: str) -> WorldSpec:
    """The world of a name.

    Raises:
        ValueError: there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {name!r}")
    return PRESETS[name]
