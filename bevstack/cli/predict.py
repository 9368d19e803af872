r"""Finds boxes in nuScenes scenes, or in your own images.

  bevstack predict --config C --weights W --nuscenes ROOT --version v1.0-mini --scene scene-0103 \
      --out results.json
  bevstack predict --weights W --rig rig.json --images DIR --out results.json

--weights alone suffices: the file holds its configuration. --config alone predicts with random
weights, which shows that everything runs. Under `torchrun` the scenes of a split are shared among
the processes, and a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.runtime.detector import Detector


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack predict``."""
    model = parser.add_argument_group("model")
    model.add_argument("--config", help="name of a packaged configuration, or a file")
    model.add_argument("--weights", type=Path, metavar="FILE", help="safetensors file")
    model.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    model.add_argument(
        "--mirror",
        action="store_true",
        help="look at every frame in a mirror too and join what is found; twice the time",
    )
    model.add_argument(
        "--track",
        action="store_true",
        help="track objects from frame to frame: where they are, how fast, and those hidden",
    )
    nuscenes = parser.add_argument_group("images of a data set in nuScenes' format")
    nuscenes.add_argument("--nuscenes", type=Path, metavar="ROOT", help="folder of the data set")
    nuscenes.add_argument("--version", help="folder of its tables, e.g. v1.0-mini")
    scenes = nuscenes.add_mutually_exclusive_group()
    scenes.add_argument("--scene", help="one scene, e.g. scene-0103")
    scenes.add_argument("--split", help="all scenes of a split, e.g. mini_val")
    nuscenes.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out samples whose images are missing, naming each",
    )
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
        "--out", type=Path, required=True, metavar="FILE", help="results file, as JSON"
    )


def run(args: argparse.Namespace) -> int:
    """Predicts, and says what was written."""
    from bevstack.runtime.predict import check_writable
    from bevstack.training.progress_bar import make_console

    _check_input(args)
    check_writable(args.out)
    console = make_console()
    detector = _make_detector(args, console)
    if args.mirror:
        from bevstack.runtime.mirrored import MirroredDetector

        detector = MirroredDetector(detector)
    if args.track:
        from bevstack.runtime.tracked import TrackedDetector

        detector = TrackedDetector(detector)
    if args.rig is not None:
        return _predict_rig(args, detector, console)
    return _predict_nuscenes(args, detector, console)


def _check_input(args: argparse.Namespace) -> None:
    if args.config is None and args.weights is None:
        raise ValueError("--config or --weights must be given; got neither")
    if (args.nuscenes is None) == (args.rig is None):
        raise ValueError(
            "either --nuscenes ROOT or --rig FILE must be given; "
            f"got {'neither' if args.rig is None else 'both'}"
        )
    if args.nuscenes is not None and args.version is None:
        raise ValueError("--version must be given with --nuscenes, e.g. v1.0-mini; got none")
    if args.nuscenes is not None and args.scene is None and args.split is None:
        raise ValueError("--scene or --split must be given with --nuscenes; got neither")
    if args.track and args.nuscenes is None:
        raise ValueError(
            "--nuscenes must be given with --track, which needs frames in a row; got --rig, "
            "which is one frame"
        )
    if args.rig is not None and args.images is None:
        raise ValueError("--images DIR must be given with --rig; got none")


def _make_detector(args: argparse.Namespace, console: Console) -> Detector:
    from bevstack.config import load_config
    from bevstack.runtime.detector import build, load

    expected = None if args.config is None else load_config(args.config)
    if args.weights is not None:
        return load(args.weights, args.device, expected=expected)
    assert expected is not None  # _check_input
    console.print("no --weights: the weights are random, so the boxes mean nothing")
    return build(expected, args.device)


def _predict_rig(args: argparse.Namespace, detector: Detector, console: Console) -> int:
    from bevstack.runtime.predict import predict_rig

    count = predict_rig(detector, args.rig, args.images, args.out, lost=args.lost)
    console.print(f"{count} boxes in the ego frame: {args.out}")
    return 0


def _predict_nuscenes(args: argparse.Namespace, detector: Detector, console: Console) -> int:
    from rich.progress import Progress

    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.runtime.predict import join_processes, predict_dataset

    config = detector.config
    dataset = NuScenesDataset(
        args.nuscenes,
        args.version,
        scenes=None if args.scene is None else [args.scene],
        split=args.split,
        bev_frame=config.grid.frame,
        class_names=config.class_names,
    )
    shard = join_processes()
    quiet = shard.rank != 0 or not console.is_terminal
    with Progress(console=console, disable=quiet) as bar:
        task = bar.add_task("predicting", total=None)
        skipped = predict_dataset(
            detector,
            dataset,
            args.out,
            skip_missing=args.skip_missing,
            shard=shard,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if shard.rank == 0:
        for token in skipped:
            console.print(f"skipped {token}: images missing")
        console.print(f"{len(dataset) - len(skipped)} samples: {args.out}")
    return 0
