"""Draws the boxes of a results file on the camera images, beside a view from above.

  bevstack show --results results.json --nuscenes ROOT --version v1.0-mini --out pictures
  bevstack show --results boxes.json --rig rig.json --images DIR --out pictures

True boxes are drawn too, dashed, where the data set has them. Each picture's path is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack show``."""
    parser.add_argument(
        "--results",
        type=Path,
        required=True,
        metavar="FILE",
        help="results file, as `bevstack predict` writes it",
    )
    nuscenes = parser.add_argument_group("images of a data set in nuScenes' format")
    nuscenes.add_argument("--nuscenes", type=Path, metavar="ROOT", help="folder of the data set")
    nuscenes.add_argument("--version", help="folder of its tables, e.g. v1.0-mini")
    which = nuscenes.add_mutually_exclusive_group()
    which.add_argument("--scene", help="draw only this scene, e.g. scene-0103")
    which.add_argument("--sample", metavar="TOKEN", help="draw only this sample")
    nuscenes.add_argument("--max", type=int, metavar="N", help="draw only the first N samples")
    nuscenes.add_argument("--no-truth", action="store_true", help="leave the true boxes out")
    own = parser.add_argument_group("your own images")
    own.add_argument("--rig", type=Path, metavar="FILE", help="the cameras' calibration, as JSON")
    own.add_argument("--images", type=Path, metavar="DIR", help="folder of the cameras' images")
    own.add_argument(
        "--lost",
        action="append",
        default=[],
        metavar="CAMERA",
        help="a camera of the rig that gave no image; may be repeated",
    )
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.2,
        metavar="S",
        help="leave predicted boxes below this score out (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the pictures"
    )


def run(args: argparse.Namespace) -> int:
    """Draws the pictures and prints where they are."""
    from bevstack.runtime.pictures import draw_results, draw_rig_results

    _check_input(args)
    if args.rig is not None:
        paths = [
            draw_rig_results(
                args.rig,
                args.images,
                args.results,
                args.out,
                lost=args.lost,
                min_score=args.min_score,
            )
        ]
    else:
        paths = draw_results(
            args.nuscenes,
            args.version,
            args.results,
            args.out,
            scenes=None if args.scene is None else [args.scene],
            samples=None if args.sample is None else [args.sample],
            max_samples=args.max,
            min_score=args.min_score,
            with_truth=not args.no_truth,
        )
    print("\n".join(map(str, paths)))
    return 0


def _check_input(args: argparse.Namespace) -> None:
    if (args.nuscenes is None) == (args.rig is None):
        raise ValueError(
            "either --nuscenes ROOT or --rig FILE must be given; "
            f"got {'neither' if args.rig is None else 'both'}"
        )
    if args.nuscenes is not None and args.version is None:
        raise ValueError("--version must be given with --nuscenes, e.g. v1.0-mini; got none")
    if args.rig is not None and args.images is None:
        raise ValueError("--images DIR must be given with --rig; got none")
    if args.max is not None and args.max < 1:
        raise ValueError(f"--max must be at least 1; got {args.max}")
