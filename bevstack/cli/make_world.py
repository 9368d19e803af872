"""Writes a synthetic data set in nuScenes' format: tables, images, splits, lidar sweeps.

bevstack and nuscenes-devkit read it as they read nuScenes. The same options give the same bytes.
A folder that already holds the very world asked for is left as it is.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

PRESET_NAMES = ("demo", "small", "benchmark")  # of bevstack.synthetic.presets

# Fields of WorldSpec that are options of the same name, with their help.
NUMBERS = (
    ("seed", "another seed is another world"),
    ("train_scenes", "scenes to train on"),
    ("val_scenes", "scenes held out, for choices"),
    ("test_scenes", "scenes held out, for the last word; other colours and sizes"),
    ("samples_per_scene", "key frames of a scene, 0.5 s apart"),
    ("processes", "processes that render"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack make-world``."""
    parser.add_argument("root", type=Path, help="folder to write")
    parser.add_argument(
        "--preset",
        choices=PRESET_NAMES,
        help="a world of agreed size; other options change single things of it",
    )
    parser.add_argument(
        "--version", help="folder of the tables; v1.0-mini takes nuScenes' ten scene names"
    )
    for name, description in NUMBERS:
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, metavar="N", help=description)
    parser.add_argument(
        "--image-size", type=int, nargs=2, metavar=("H", "W"), help="px, 16:9, e.g. 225 400"
    )
    parser.add_argument(
        "--rig", choices=("n015", "n008", "mix"), help="which of nuScenes' two cars, or both"
    )
    parser.add_argument("--weather", help="sun, overcast, rain, fog, night, night_rain or mix")
    parser.add_argument(
        "--sweeps",
        action="store_true",
        default=None,
        help="pictures at 12 Hz and lidar sweeps at 20 Hz, not key frames at 2 Hz alone",
    )


@contextlib.contextmanager
def scenes_progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with the time left; gives the function that moves it on."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("scenes", total=None)

        def move(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield move


def run(args: argparse.Namespace) -> int:
    """Makes the world and says what it holds."""
    from bevstack.synthetic import WorldSpec, make_world, preset

    given = {
        field.name: tuple(value) if isinstance(value, list) else value
        for field in fields(WorldSpec)
        if (value := getattr(args, field.name, None)) is not None
    }
    spec = preset(args.preset) if args.preset else WorldSpec()
    with scenes_progress() as progress:
        summary = make_world(args.root, replace(spec, **given), progress)
    print(
        f"{summary.root}/{summary.version}: {summary.scenes} scenes, {summary.samples} samples, "
        f"{summary.annotations} boxes in {summary.seconds:.0f} s"
    )
    for name, count in sorted(summary.annotations_per_class.items()):
        print(f"  {name:24}{count:8}")
    print(f"digest {summary.digest}")
    return 0
