"""Write a synthetic data set in nuScenes' format: tables, images, splits and lidar sweeps.

bevstack and nuscenes-devkit read it like nuScenes. The same options give the same bytes. If the
folder already holds the same world, nothing is written.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

PRESET_NAMES = (
    "demo",
    "small",
    "benchmark",
    "lights",
    "lights_drives",
    "lights_training",
)  # of bevstack.synthetic.presets

# Fields of WorldSpec that are options of the same name, with their help.
NUMBERS = (
    ("seed", "seed of the random world"),
    ("train_scenes", "number of scenes to train on: split synth_train"),
    ("val_scenes", "number of held-out scenes for choices in training: split synth_val"),
    ("test_scenes", "number of held-out scenes for final scores, with other colours and sizes"),
    ("samples_per_scene", "number of key frames of a scene, 0.5 s apart"),
    ("processes", "number of processes that render"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack make-world``."""
    parser.add_argument("root", type=Path, nargs="?", help="folder to write, instead of --out")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write the data set into")
    parser.add_argument(
        "--preset",
        choices=PRESET_NAMES,
        help="world of a fixed size; further options change single values of it",
    )
    parser.add_argument(
        "--version",
        help="folder of the tables; with v1.0-mini, scenes get the names of nuScenes' ten scenes",
    )
    for name, description in NUMBERS:
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, metavar="N", help=description)
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="pixels, with an aspect ratio of 16:9, e.g. 225 400",
    )
    parser.add_argument(
        "--rig",
        choices=("n015", "n008", "mix"),
        help="cameras of one of nuScenes' two cars; mix: drawn for each scene",
    )
    parser.add_argument(
        "--weather", help="sun, overcast, rain, fog, night or night_rain; mix: drawn for each scene"
    )
    parser.add_argument(
        "--sweeps",
        action="store_true",
        default=None,
        help="write also images at 12 Hz and lidar sweeps at 20 Hz, not only key frames at 2 Hz",
    )
    parser.add_argument(
        "--dense",
        dest="dense_labels",
        action="store_true",
        default=None,
        help="write also depth and semantic class of every pixel of every image",
    )


@contextlib.contextmanager
def scenes_progress(quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar with the remaining time on stderr; yield the function to update it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("scenes", total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update


def run(args: argparse.Namespace) -> int:
    """Make the world and print its numbers of scenes, samples and boxes and its digest.

    Raises:
        ValueError: options that are out of range or contradict each other.
        OSError: the folder holds other files or cannot be written.
    """
    from bevstack.cli.tables import print_lines
    from bevstack.synthetic import WorldSpec, make_world, preset

    if (args.root is None) == (args.out is None):
        given_paths = " and ".join(str(p) for p in (args.root, args.out) if p is not None)
        raise ValueError(f"one folder must be given with --out; got {given_paths or 'none'}")
    given: dict[str, Any] = {
        field.name: tuple(value) if isinstance(value, list) else value
        for field in fields(WorldSpec)
        if (value := getattr(args, field.name, None)) is not None
    }
    spec = preset(args.preset) if args.preset else WorldSpec()
    with scenes_progress(getattr(args, "quiet", False)) as progress:
        summary = make_world(args.root or args.out, replace(spec, **given), progress)
    print(
        f"{summary.root}/{summary.version}: {summary.scenes} scenes, {summary.samples} samples, "
        f"{summary.annotations} boxes in {summary.seconds:.0f} s"
    )
    counts = sorted(summary.annotations_per_class.items())
    print_lines([("class", "boxes"), *((name, str(count)) for name, count in counts)])
    print(f"digest {summary.digest}")
    return 0
