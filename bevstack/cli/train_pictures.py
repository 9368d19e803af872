"""The part of ``bevstack train`` that learns lights and signs from labelled single pictures."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.config import Config
    from bevstack.tasks.traffic_pictures import PictureTraffic

_OTHER_DATA = ("nuscenes", "version", "split", "scene", "held_out", "held_out_scene", "classes")
_TRAFFIC_DATA = ("traffic_nuscenes", "traffic_version", "traffic_split", "traffic_held_out")


def check_pictures(args: argparse.Namespace) -> None:
    """Check that either pictures or a data set in nuScenes' format are given.

    Raises:
        ValueError: neither is given, or an option that does not go with the given one.
    """
    if args.pictures is None:
        if args.fold is not None:
            raise ValueError("--pictures must be given with --fold; got none")
        missing = [name for name in ("nuscenes", "version") if getattr(args, name) is None]
        if missing or not (args.split or args.scene):
            option = f"--{missing[0]}" if missing else "--split or --scene"
            raise ValueError(f"{option} must be given, or --pictures; got none")
        return
    options = (*_OTHER_DATA, *_TRAFFIC_DATA)
    given = [name for name in options if getattr(args, name)] + ["dry_run"] * args.dry_run
    if given:
        raise ValueError(
            f"--{given[0].replace('_', '-')} must be left out with --pictures; got both"
        )


def make_picture_task(args: argparse.Namespace, config: Config, console: Console) -> PictureTraffic:
    """Open the pictures, print what they hold, and build the task.

    Raises:
        FileNotFoundError: a folder, label file or picture does not exist.
        ValueError: a file is damaged, or the options do not fit the pictures.
    """
    from bevstack.cli.pictures_option import open_sets, parse_fold
    from bevstack.datasets.traffic_view.pictures import PictureSamples, split_fold
    from bevstack.models.build_traffic import traffic_section
    from bevstack.tasks.traffic_pictures import PictureTraffic

    section = traffic_section(config)
    fold = None if args.fold is None else parse_fold(args.fold)
    sets = open_sets(args.pictures)
    parts = [(own, None) if fold is None else split_fold(own, *fold) for own in sets]
    for whole, (trained, judged) in zip(sets, parts, strict=True):
        apart = "" if judged is None else f", {len(judged.images)} kept apart"
        console.print(
            f"{whole.name}: {len(trained.images)} pictures to train on{apart}, "
            f"{whole.num_dropped} upside down or skewed and left out"
        )
    held_out = [judged for _, judged in parts if judged is not None]
    if not held_out:
        config = replace(config, training=replace(config.training, evaluate_every=0))
    return PictureTraffic(
        config,
        PictureSamples([own for own, _ in parts], config=section, images=config.images),
        held_out=PictureSamples(held_out, config=section, images=config.images)
        if held_out
        else None,
    )
