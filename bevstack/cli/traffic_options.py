"""Options of traffic lights and signs of ``bevstack predict``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.vocabulary import MANOEUVRES

if TYPE_CHECKING:
    from bevstack.runtime.predict_cues import CueOptions
    from bevstack.runtime.stream_protocol import FrameDetector

KEY_FRAMES, SWEEPS = "keyframes", "sweeps"


def add_traffic(parser: argparse.ArgumentParser) -> None:
    """Declare the options of cues: their file, their rate, and the commanded manoeuvre."""
    traffic = parser.add_argument_group("traffic lights and signs, if the weights have the task")
    traffic.add_argument(
        "--cues",
        type=Path,
        metavar="FILE",
        help="file for lights, signs and what they mean for the vehicle "
        "(default: beside --out, as in results_cues.json)",
    )
    traffic.add_argument("--no-cues", action="store_true", help="predict boxes alone")
    traffic.add_argument(
        "--traffic-rate",
        choices=(KEY_FRAMES, SWEEPS),
        default=KEY_FRAMES,
        metavar="RATE",
        help="keyframes, or sweeps: give cues for the front camera's images between the key frames "
        "of a data set, too (default: %(default)s)",
    )
    commands = traffic.add_mutually_exclusive_group()
    commands.add_argument(
        "--manoeuvre",
        choices=MANOEUVRES,
        help="turn at the next junction that the navigation commands, for all frames (default: "
        "straight)",
    )
    commands.add_argument(
        "--manoeuvres",
        type=Path,
        metavar="FILE",
        help="JSON file of a route planner's commands with their times",
    )


def is_pictures(args: argparse.Namespace) -> bool:
    """Return True for single pictures without calibration: ``--images`` alone."""
    return args.images is not None and args.rig is None and args.nuscenes is None


def check_traffic(args: argparse.Namespace) -> None:
    """Check that the options of lights and signs fit the remaining ones.

    Raises:
        ValueError: two options exclude each other, or one is of no use.
    """
    if args.cues is not None and args.no_cues:
        raise ValueError("--cues and --no-cues must not be given together; got both")
    for option, given in (
        ("--manoeuvre", args.manoeuvre is not None),
        ("--manoeuvres", args.manoeuvres is not None),
    ):
        if given and args.no_cues:
            raise ValueError(f"{option} and --no-cues must not be given together; got both")
    if args.traffic_rate == SWEEPS and args.nuscenes is None:
        raise ValueError("--nuscenes ROOT must be given with --traffic-rate sweeps; got none")
    if args.cues is not None and args.cues == args.out:
        raise ValueError(f"--cues must differ from --out; got {args.cues} for both")


def check_pictures(args: argparse.Namespace) -> None:
    """Check the options that go with single pictures.

    Raises:
        ValueError: no weights, or an option that needs calibrated cameras.
    """
    if args.weights is None:
        raise ValueError(
            "--weights with the task 'traffic' must be given with --images alone; got none: for "
            "boxes, give --rig FILE too"
        )
    for option, given in (
        ("--frames", args.frames is not None),
        ("--track", args.track),
        ("--mirror", args.mirror),
        ("--lost", bool(args.lost)),
        ("--interval", args.interval is not None),
        ("--no-history", args.no_history),
        ("--cues", args.cues is not None),
        ("--manoeuvre", args.manoeuvre is not None),
        ("--manoeuvres", args.manoeuvres is not None),
        ("--config", args.config is not None),
    ):
        if given:
            raise ValueError(
                f"--rig FILE must be given with {option}; got single pictures without calibration"
            )


def cue_options(args: argparse.Namespace, detector: FrameDetector) -> CueOptions | None:
    """Return the options of the cues; None if the weights give none, or none are wanted.

    Raises:
        FileNotFoundError: there is no file of manoeuvres.
        ValueError: an option of cues is given and the weights give none, or the file of manoeuvres
            is damaged.
        OSError: the file of the cues cannot be written.
    """
    from bevstack.runtime.commands import Commands, read_commands
    from bevstack.runtime.predict import check_writable
    from bevstack.runtime.predict_cues import CueOptions, cues_path, require_cue_source
    from bevstack.runtime.with_cues import find_cue_source

    if args.no_cues:
        return None
    sweeps, commands = args.traffic_rate == SWEEPS, None
    if args.manoeuvre is not None:
        commands = Commands.always(args.manoeuvre)
    elif args.manoeuvres is not None:
        commands = read_commands(args.manoeuvres)
    wanted = args.cues is not None or sweeps or commands is not None
    if not wanted and find_cue_source(detector) is None:
        return None
    require_cue_source(detector)
    path: Path = args.cues or cues_path(args.out)
    check_writable(path)
    return CueOptions(path, sweeps=sweeps, commands=commands)
