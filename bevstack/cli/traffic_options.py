"""Options of traffic lights and signs, which several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path

KEY_FRAMES, SWEEPS = "keyframes", "sweeps"


def add_traffic(parser: argparse.ArgumentParser) -> None:
    """Declare ``--cues``, ``--no-cues`` and ``--traffic-rate`` of ``bevstack predict``."""
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
        ("--config", args.config is not None),
    ):
        if given:
            raise ValueError(
                f"--rig FILE must be given with {option}; got single pictures without calibration"
            )
