"""What is compared: seeds of one configuration, and the same without one of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bevstack.config import Config

SEED = "seed_"  # how the names of plain repetitions begin


@dataclass(frozen=True)
class Variant:
    """A configuration to train, and what it is trained on."""

    name: str
    about: str
    config: Config
    shuffled_labels: bool = False  # trained on true boxes of other scenes


def variants_of(config: Config, seeds: int) -> list[Variant]:
    """All variants that there are of a configuration."""
    found = [
        Variant(f"{SEED}{seed}", "as configured", _seeded(config, seed)) for seed in range(seeds)
    ]
    if config.temporal is not None:
        found.append(Variant("no_memory", "a single frame, no fusion", _without_memory(config)))
    if config.proposals is not None:
        about = "learned queries alone, none from the perspective head"
        found.append(Variant("no_proposals", about, replace(config, proposals=None)))
    if config.perspective is not None:
        about = "neither perspective supervision nor proposals"
        found.append(Variant("no_perspective", about, _without_perspective(config)))
    about = "every fifth sample of training without one of its cameras"
    found.append(Variant("camera_dropout", about, _with_camera_dropout(config)))
    about = "images with true boxes of other scenes: must learn nothing"
    found.append(Variant("shuffled_labels", about, config, shuffled_labels=True))
    return found


def chosen(variants: list[Variant], only: list[str]) -> list[Variant]:
    """The variants of given names, all for none; "seed_" names all seeds.

    Raises:
        ValueError: a name that is none's.
    """

    def chooses(name: str) -> Callable[[Variant], bool]:
        return lambda of: of.name == name or (name.endswith("_") and of.name.startswith(name))

    for name in only:
        if not any(map(chooses(name), variants)):
            known = ", ".join(variant.name for variant in variants)
            raise ValueError(f"--only must name variants, of {known}; got {name!r}")
    return [v for v in variants if not only or any(chooses(name)(v) for name in only)]


def _seeded(config: Config, seed: int) -> Config:
    return replace(config, training=replace(config.training, seed=seed))


def _without_memory(config: Config) -> Config:
    return replace(config, frames=(0,), temporal=None)


def _without_perspective(config: Config) -> Config:
    recipe = replace(config.training, perspective_steps=0)
    return replace(config, perspective=None, proposals=None, training=recipe)


def _with_camera_dropout(config: Config) -> Config:
    return replace(config, augmentation=replace(config.augmentation, camera_dropout=0.2))
