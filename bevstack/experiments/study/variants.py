"""Compared variants: seeds of one configuration, and the same without one of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bevstack.config import Config

SEED = "seed_"  # beginning of the names of variants that differ only in their seed


@dataclass(frozen=True)
class Variant:
    """A configuration to train, and its kind of labels."""

    name: str
    about: str
    config: Config
    shuffled_labels: bool = False  # train on the true boxes of other scenes


def list_variants(config: Config, seeds: int) -> list[Variant]:
    """Return all variants of a configuration that are possible."""
    variants = [
        Variant(f"{SEED}{seed}", "as configured", _seeded(config, seed)) for seed in range(seeds)
    ]
    if config.temporal is not None:
        variants.append(Variant("no_memory", "a single frame, no fusion", _without_memory(config)))
    if config.proposals is not None:
        about = "learned queries only, none from the perspective head"
        variants.append(Variant("no_proposals", about, replace(config, proposals=None)))
    if config.perspective is not None:
        about = "neither perspective supervision nor proposals"
        variants.append(Variant("no_perspective", about, _without_perspective(config)))
    about = "every fifth training sample without one of its cameras"
    variants.append(Variant("camera_dropout", about, _with_camera_dropout(config)))
    about = "images with true boxes of other scenes: the model must learn nothing"
    variants.append(Variant("shuffled_labels", about, config, shuffled_labels=True))
    return variants


def select_variants(variants: Sequence[Variant], only: Sequence[str]) -> list[Variant]:
    """Return the variants of the given names; all if none is given.

    A name that ends in "_" selects all variants whose name starts with it, such as "seed_".

    Raises:
        ValueError: a name selects no variant.
    """

    def selector(name: str) -> Callable[[Variant], bool]:
        return lambda v: v.name == name or (name.endswith("_") and v.name.startswith(name))

    for name in only:
        if not any(map(selector(name), variants)):
            known = ", ".join(variant.name for variant in variants)
            raise ValueError(f"--only must name variants among {known}; got {name!r}")
    return [v for v in variants if not only or any(selector(name)(v) for name in only)]


def _seeded(config: Config, seed: int) -> Config:
    return replace(config, training=replace(config.training, seed=seed))


def _without_memory(config: Config) -> Config:
    return replace(config, frames=(0,), temporal=None)


def _without_perspective(config: Config) -> Config:
    recipe = replace(config.training, perspective_steps=0)
    return replace(config, perspective=None, proposals=None, training=recipe)


def _with_camera_dropout(config: Config) -> Config:
    return replace(config, augmentation=replace(config.augmentation, camera_dropout=0.2))
