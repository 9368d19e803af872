"""Draw boxes, lights and signs on the camera images and in the bird's-eye view.

  bevstack show --results results.json --nuscenes ROOT --version v1.0-mini --out pictures
  bevstack show --results boxes.json --rig rig.json --images DIR --out pictures
  bevstack show --results drive.json --rig rig.json --frames DIR --out pictures
  bevstack show --results labels --images DIR --out pictures
  bevstack show --results objects.json --images DIR --out pictures
  bevstack show --nuscenes ROOT --version v1.0-synth --out pictures
  bevstack show --nuscenes ROOT --version v1.0-synth --dense --out pictures

True boxes, lights and signs are drawn too, if the data set has them; without --results, alone. If
there is a file of cues beside the results, its lights, signs and advice are drawn. Pictures without
calibration (--images alone) get the labels of their pixels from a folder of label maps, or boxes
and masks from a file in COCO's format. The command prints the path of each picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bevstack.cli.options import (
    add_allow_outside,
    add_classes,
    add_cues,
    add_shown_manoeuvre,
    add_strict_rig,
    rename_options,
)
from bevstack.cli.own_images import add_own_images, check_own_images
from bevstack.cli.show_pictures import draw_pictures
from bevstack.cli.traffic_options import is_pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack show``."""
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="results file of `bevstack predict`, or its folder of label maps (default with "
        "--nuscenes: draw the truth alone)",
    )
    add_cues(parser)
    add_shown_manoeuvre(parser)
    nuscenes = parser.add_argument_group("images of a data set in nuScenes' format")
    nuscenes.add_argument("--nuscenes", type=Path, metavar="ROOT", help="folder of the data set")
    nuscenes.add_argument("--version", help="folder of the tables, e.g. v1.0-mini")
    selection = nuscenes.add_mutually_exclusive_group()
    selection.add_argument(
        "--scene",
        action="append",
        metavar="NAME",
        help="draw only this scene, e.g. scene-0103; may be repeated",
    )
    selection.add_argument("--sample", metavar="TOKEN", help="draw only this sample")
    nuscenes.add_argument(
        "--max-frames", type=int, metavar="N", help="draw only the first N samples or frames"
    )
    rename_options(parser, {"--max": "--max-frames"})
    nuscenes.add_argument("--no-truth", action="store_true", help="do not draw true boxes")
    nuscenes.add_argument(
        "--dense",
        action="store_true",
        help="draw the true class and depth of each pixel instead, of a world of "
        "`bevstack make-world --dense`",
    )
    add_classes(nuscenes)
    add_own_images(parser)
    add_strict_rig(parser)
    add_allow_outside(parser)
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.2,
        metavar="S",
        help="lowest score of a predicted box to draw (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the pictures"
    )


def run(args: argparse.Namespace) -> int:
    """Draw the pictures and print their paths.

    Raises:
        FileNotFoundError: the results, the data set, an image or the rig file does not exist.
        ValueError: options that do not fit, a damaged file, or no sample to draw.
        OSError: the pictures cannot be written.
    """
    from bevstack.runtime.pictures import draw_results, draw_rig_results

    if is_pictures(args):
        print("\n".join(map(str, draw_pictures(args))))
        return 0
    _check_input(args)
    if args.dense:
        paths = _draw_dense(args)
    elif args.frames is not None:
        paths = _draw_drive(args)
    elif args.rig is not None:
        paths = [
            draw_rig_results(
                args.rig,
                args.images,
                args.results,
                args.out,
                lost=args.lost,
                min_score=args.min_score,
                allow_outside=args.allow_outside,
                cues=args.cues,
                manoeuvre=args.manoeuvre or "",
            )
        ]
    else:
        paths = draw_results(
            args.nuscenes,
            args.version,
            args.results,
            args.out,
            scenes=args.scene,
            samples=None if args.sample is None else [args.sample],
            max_samples=args.max_frames,
            min_score=args.min_score,
            with_truth=not args.no_truth,
            classes=args.classes,
            allow_outside=args.allow_outside,
            cues=args.cues,
            manoeuvre=args.manoeuvre or "",
        )
    print("\n".join(map(str, paths)))
    return 0


def _draw_drive(args: argparse.Namespace) -> list[Path]:
    from bevstack.runtime.frame_source import open_frames
    from bevstack.runtime.pictures import draw_drive_results

    source = open_frames(
        args.rig, args.frames, lost=args.lost, allow_outside=args.allow_outside, skip_missing=True
    )
    return draw_drive_results(
        source,
        args.results,
        args.out,
        max_frames=args.max_frames,
        min_score=args.min_score,
        cues=args.cues,
        manoeuvre=args.manoeuvre or "",
    )


def _draw_dense(args: argparse.Namespace) -> list[Path]:
    from bevstack.runtime.dense_pictures import draw_dense_labels

    return draw_dense_labels(
        args.nuscenes,
        args.version,
        args.out,
        scenes=args.scene,
        samples=None if args.sample is None else [args.sample],
        max_samples=args.max_frames,
        allow_outside=args.allow_outside,
    )


def _check_input(args: argparse.Namespace) -> None:
    if (args.nuscenes is None) == (args.rig is None):
        raise ValueError(
            "either --nuscenes ROOT or --rig FILE must be given; "
            f"got {'neither' if args.rig is None else 'both'}"
        )
    if args.nuscenes is not None and args.version is None:
        raise ValueError("--version must be given with --nuscenes, e.g. v1.0-mini; got none")
    check_own_images(args)
    if args.dense and args.nuscenes is None:
        raise ValueError("--nuscenes ROOT must be given with --dense; got none")
    if args.dense and (args.results is not None or args.no_truth):
        raise ValueError("--dense draws true labels alone; got --results or --no-truth too")
    if args.results is None and args.rig is not None:
        raise ValueError("--results FILE must be given with --rig; got none")
    if args.results is None and args.no_truth:
        raise ValueError("--results FILE must be given with --no-truth; got neither to draw")
    if args.max_frames is not None and args.max_frames < 1:
        raise ValueError(f"--max-frames must be at least 1; got {args.max_frames}")
