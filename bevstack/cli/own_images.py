"""Options of your own images: a rig, the images of one frame, or the frames of a drive."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_own_images(parser: argparse.ArgumentParser) -> None:
    """Declare ``--rig``, ``--images``, ``--frames`` and ``--lost``."""
    images = parser.add_argument_group("your own images")
    images.add_argument(
        "--rig", type=Path, metavar="FILE", help="calibration of the cameras: a JSON rig file"
    )
    images.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder with the images of the cameras; without a rig, pictures, or one picture",
    )
    images.add_argument(
        "--frames",
        type=Path,
        metavar="DIR",
        help="frames of a drive: a table frames.json, or a folder with one, with a folder of "
        "pictures a camera, or with a folder a frame",
    )
    images.add_argument(
        "--lost",
        action="append",
        default=[],
        metavar="CAMERA",
        help="camera of the rig without an image; may be repeated",
    )


def add_drive(parser: argparse.ArgumentParser) -> None:
    """Declare ``--interval`` and ``--no-history``."""
    drive = parser.add_argument_group("frames of a drive (--frames)")
    drive.add_argument(
        "--interval",
        type=float,
        metavar="S",
        help="seconds from frame to frame, e.g. 0.5; frames in between are left out (default: all "
        "frames; of videos without a list of frames, the interval that the model was trained with)",
    )
    drive.add_argument(
        "--no-history",
        action="store_true",
        help="predict each frame by itself, which needs no poses",
    )


def check_own_images(args: argparse.Namespace) -> None:
    """Check that a rig comes with images or frames, and these with a rig.

    Raises:
        ValueError: one of them is missing, or both are given.
    """
    if args.frames is not None and args.rig is None:
        raise ValueError("--rig FILE must be given with --frames; got none")
    if args.rig is not None and (args.images is None) == (args.frames is None):
        raise ValueError(
            "--images DIR must be given with --rig, or --frames DIR for a drive; got "
            f"{'none' if args.images is None else 'both'}"
        )


def check_drive(args: argparse.Namespace) -> None:
    """Check that the options of a drive are given with one.

    Raises:
        ValueError: ``--interval`` or ``--no-history`` is given without ``--frames``, or the latter
            with ``--track``.
    """
    for option, given in (
        ("--interval", args.interval is not None),
        ("--no-history", args.no_history),
    ):
        if given and args.frames is None:
            raise ValueError(f"--frames DIR must be given with {option}; got none")
    if args.no_history and args.track:
        raise ValueError(
            "--track and --no-history must not be given together; got both: tracks are a history"
        )
