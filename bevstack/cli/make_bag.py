r"""Write a drive of a data set as a bag of sensor messages, to try `bevstack node` with.

  bevstack make-bag --nuscenes ROOT --version v1.0-mini --scene scene-0103 --out drive.mcap

The bag holds the pictures of all cameras, their calibrations, /tf, /tf_static and /odom. Pictures
between the key frames are part of it where the data set has them; `bevstack make-world --sweeps`
makes them at 12 Hz. Compressed pictures are the files' own bytes. docs/node.md lists the topics.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bevstack.cli.options import add_allow_outside

# Of bevstack.export.messages.store, which a test compares: the parser imports no numpy.
ROS1_DISTROS = ("noetic",)
ROS2_DISTROS = ("humble", "iron", "jazzy", "kilted")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack make-bag``."""
    parser.add_argument(
        "--nuscenes", type=Path, required=True, metavar="ROOT", help="folder of the data set"
    )
    parser.add_argument(
        "--version", help="folder of the tables, e.g. v1.0-mini; required if there are several"
    )
    parser.add_argument(
        "--scene", metavar="NAME", help="scene of the drive; required if there are several"
    )
    parser.add_argument(
        "--raw", action="store_true", help="decode the pictures, instead of writing their files"
    )
    parser.add_argument(
        "--distro",
        choices=(*ROS1_DISTROS, *ROS2_DISTROS),
        help="distribution of ROS (default: humble, for a .bag noetic)",
    )
    add_allow_outside(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="FILE.mcap, FILE.db3 or FILE.bag"
    )


def run(args: argparse.Namespace) -> int:
    """Write the bag and print its numbers of messages and pictures.

    Raises:
        FileNotFoundError: the data set or a picture does not exist.
        ModuleNotFoundError: the extra ``ros`` is not installed.
        ValueError: an unknown scene, a damaged picture, or a suffix of another distribution.
        OSError: the bag cannot be written.
    """
    from bevstack.export.drive_bag import write_drive_bag
    from bevstack.export.messages.bag import check_bag_path
    from bevstack.export.messages.store import open_store
    from bevstack.tables.reader import Tables

    store = open_store(args.distro or default_distro(args.out))
    check_bag_path(args.out, store)
    version = args.version or _only_version(args.nuscenes)
    tables = Tables(args.nuscenes, version, allow_outside=args.allow_outside)
    scene = args.scene or _only_scene([str(name) for name in tables.scenes.name])
    summary = write_drive_bag(args.out, tables, scene, store, raw=args.raw)
    rate = f" at {summary.rate_hz:.1f} Hz" if summary.rate_hz else ""
    print(
        f"{scene}: {summary.num_messages} messages, {summary.num_pictures} pictures of "
        f"{len(summary.cameras)} cameras{rate}: {args.out}"
    )
    return 0


def default_distro(path: Path) -> str:
    """Return the distribution of a bag without a chosen one, by its suffix."""
    return ROS1_DISTROS[0] if path.suffix == ".bag" else ROS2_DISTROS[0]


def _only_version(root: Path) -> str:
    found = sorted(path.parent.name for path in root.glob("*/scene.json"))
    if len(found) > 1:
        raise ValueError(f"--version must be given; got a root with {', '.join(found)}")
    return found[0] if found else ""


def _only_scene(names: list[str]) -> str:
    if len(names) != 1:
        raise ValueError(
            f"--scene must be given; got a data set of {len(names)} scenes: {', '.join(names[:8])}"
        )
    return names[0]
