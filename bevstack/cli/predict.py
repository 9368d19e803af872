r"""Predict boxes, lights and signs in scenes of a data set, or in your own images.

  bevstack predict --config C --weights W --nuscenes ROOT --version v1.0-mini --scene scene-0103 \
      --out results.json
  bevstack predict --weights W --rig rig.json --images DIR --out results.json
  bevstack predict --weights W --rig rig.json --frames DIR --track --out results.json
  bevstack predict --weights W --images DIR --out elements.json

A weights file holds its configuration, so --weights needs no --config. --config without --weights
predicts with random weights, as a test of the installation. KEY=VALUE changes a field of the
configuration; with --weights alone, a field that keeps the shapes of the weights, such as
decoder.max_detections=50. Scenes are streamed: the model keeps a memory of past frames. Under
`torchrun` the processes share the scenes of a split, and a killed run continues with the unfinished
scenes.

With weights that have the task "traffic", a second file beside the results holds traffic lights,
signs and the advice that follows from them. Pictures without calibration (--images alone) give
lights and signs only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.options import (
    add_allow_outside,
    add_config,
    add_device,
    add_no_verify,
    add_overrides,
    add_scenes,
    add_strict_rig,
)
from bevstack.cli.own_images import add_drive, add_own_images, check_drive, check_own_images
from bevstack.cli.track_options import add_track, check_tracks, track_options
from bevstack.cli.traffic_options import (
    SWEEPS,
    add_traffic,
    check_pictures,
    check_traffic,
    is_pictures,
)

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.runtime.detector import Detector
    from bevstack.runtime.frame_source import FrameSource
    from bevstack.runtime.stream_protocol import FrameDetector
    from bevstack.tables.reader import Tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack predict``."""
    model = parser.add_argument_group("model")
    add_config(model)
    add_overrides(parser)
    model.add_argument(
        "--weights", type=Path, metavar="FILE", help="weights file, or name of packaged weights"
    )
    add_no_verify(model)
    add_device(model)
    model.add_argument(
        "--mirror",
        action="store_true",
        help="predict also the mirror image of each frame and average both; takes twice the time",
    )
    add_track(model)
    add_strict_rig(parser)
    nuscenes = parser.add_argument_group("images of a data set in nuScenes' format")
    nuscenes.add_argument("--nuscenes", type=Path, metavar="ROOT", help="folder of the data set")
    nuscenes.add_argument("--version", help="folder of the tables, e.g. v1.0-mini")
    add_scenes(nuscenes, required=False, purpose="predict")
    nuscenes.add_argument(
        "--skip-missing",
        action="store_true",
        help="skip samples whose images are missing, and print each of them; with --frames, a "
        "camera whose listed image is missing counts as lost",
    )
    add_own_images(parser)
    add_drive(parser)
    add_traffic(parser)
    add_allow_outside(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="results file to write (JSON)"
    )


def run(args: argparse.Namespace) -> int:
    """Predict the boxes and print the path of the results.

    Raises:
        FileNotFoundError: the weights, the data set, an image or the rig file does not exist.
        ValueError: options that do not fit, or a damaged or unsuitable file.
        OSError: the results cannot be written.
    """
    from bevstack.runtime.predict import check_writable
    from bevstack.training.progress_bar import make_console

    _check_input(args)
    check_writable(args.out)
    if is_pictures(args):
        return _predict_pictures(args, make_console())
    tables = None if args.nuscenes is None else _open_tables(args)
    source = None if args.frames is None else _open_frames(args)
    console = make_console()
    detector: FrameDetector = _make_detector(args, console)
    if args.mirror:
        from bevstack.runtime.mirrored import MirroredDetector

        detector = MirroredDetector(detector)
    if args.track:
        from bevstack.runtime.tracked import TrackedDetector

        detector = TrackedDetector(detector)
    cues = _cues_file(args, detector)
    if source is not None:
        result = _predict_frames(args, source, detector, console, cues)
    elif tables is None:
        result = _predict_rig(args, detector, console, cues)
    else:
        result = _predict_nuscenes(args, tables, detector, console, cues)
    if cues is not None:
        console.print(f"lights, signs and cues: {cues}")
    return result


def _check_input(args: argparse.Namespace) -> None:
    if args.config is None and args.weights is None:
        raise ValueError("--config or --weights must be given; got neither")
    check_traffic(args)
    if is_pictures(args):
        check_pictures(args)
        return
    if (args.nuscenes is None) == (args.rig is None):
        raise ValueError(
            "either --nuscenes ROOT or --rig FILE must be given; "
            f"got {'neither' if args.rig is None else 'both'}"
        )
    if args.nuscenes is not None and args.version is None:
        raise ValueError("--version must be given with --nuscenes, e.g. v1.0-mini; got none")
    if args.nuscenes is not None and args.scene is None and args.split is None:
        raise ValueError("--scene or --split must be given with --nuscenes; got neither")
    if args.track and args.images is not None:
        raise ValueError(
            "--nuscenes or --frames must be given with --track, which needs successive frames; got "
            "--images, which gives one frame"
        )
    check_own_images(args)
    check_drive(args)
    check_tracks(args)


def _open_tables(args: argparse.Namespace) -> Tables:
    """Open the tables and look the scenes up, before the model is loaded."""
    from bevstack.tables.reader import Tables
    from bevstack.tables.splits import scenes_of_split

    tables = Tables(args.nuscenes, args.version, allow_outside=args.allow_outside)
    scenes_of_split(tables, args.split or args.scene)
    return tables


def _open_frames(args: argparse.Namespace) -> FrameSource:
    """Open the rig and list the frames, before the model is loaded."""
    from bevstack.runtime.frame_source import open_frames

    source = open_frames(
        args.rig,
        args.frames,
        lost=args.lost,
        allow_outside=args.allow_outside,
        skip_missing=args.skip_missing,
    )
    if args.track and not source.has_poses:
        raise ValueError(
            f"world_from_ego must be given for every frame with --track; got no poses in "
            f"{args.frames}: list them in frames.json, or leave out --track"
        )
    return source


def _make_detector(args: argparse.Namespace, console: Console) -> Detector:
    from bevstack.config import load_config, with_overrides
    from bevstack.runtime.detector import build, with_config
    from bevstack.runtime.devices import choose_device
    from bevstack.runtime.loading import load

    device = choose_device(args.device)
    expected = None if args.config is None else load_config(args.config, args.overrides)
    if args.weights is None:
        assert expected is not None  # checked by _check_input
        console.print("note: without --weights, weights are random and boxes have no meaning")
        return build(expected, device)
    detector = load(args.weights, device, expected=expected, verify=args.verify)
    if expected is None and args.overrides:
        return with_config(detector, with_overrides(detector.config, args.overrides))
    return detector


def _cues_file(args: argparse.Namespace, detector: FrameDetector) -> Path | None:
    """Return the file of the cues; None if the weights give none, or none are wanted."""
    from bevstack.runtime.predict import check_writable
    from bevstack.runtime.predict_cues import cues_path, require_cue_source
    from bevstack.runtime.with_cues import find_cue_source

    if args.no_cues:
        return None
    if args.cues is None and args.traffic_rate != SWEEPS and find_cue_source(detector) is None:
        return None
    require_cue_source(detector)
    path: Path = args.cues or cues_path(args.out)
    check_writable(path)
    return path


def _predict_pictures(args: argparse.Namespace, console: Console) -> int:
    from rich.progress import Progress

    from bevstack.runtime.devices import choose_device
    from bevstack.runtime.predict_pictures import list_pictures, load_traffic, predict_pictures

    list_pictures(args.images)  # before the model is loaded
    predictor = load_traffic(args.weights, choose_device(args.device), verify=args.verify)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("predicting", total=None)
        summary = predict_pictures(
            predictor,
            args.images,
            args.out,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(
        f"{summary.num_elements} lights and signs, {summary.num_pictures} pictures: {args.out}"
    )
    return 0


def _predict_rig(
    args: argparse.Namespace, detector: FrameDetector, console: Console, cues: Path | None
) -> int:
    from bevstack.runtime.predict import predict_rig

    count = predict_rig(
        detector,
        args.rig,
        args.images,
        args.out,
        lost=args.lost,
        allow_outside=args.allow_outside,
        cues=cues,
    )
    console.print(f"{count} boxes in the ego frame: {args.out}")
    return 0


def _predict_frames(
    args: argparse.Namespace,
    source: FrameSource,
    detector: FrameDetector,
    console: Console,
    cues: Path | None,
) -> int:
    from rich.progress import Progress

    from bevstack.runtime.predict_frames import predict_frames

    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("predicting", total=None)
        summary = predict_frames(
            detector,
            source,
            args.out,
            interval_s=args.interval,
            history=not args.no_history,
            progress=lambda done: bar.update(task, completed=done),
            cues=cues,
        )
    for camera, count in summary.lost.items():
        console.print(f"camera {camera} is lost in {count} of {summary.num_frames} frames")
    console.print(
        f"{summary.num_boxes} boxes in the ego frame, {summary.num_frames} frames: {args.out}"
    )
    return 0


def _predict_nuscenes(
    args: argparse.Namespace,
    tables: Tables,
    detector: FrameDetector,
    console: Console,
    cues: Path | None,
) -> int:
    from rich.progress import Progress

    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.runtime.predict import join_processes, predict_dataset
    from bevstack.runtime.predict_cues import CueOptions

    config = detector.config
    dataset = NuScenesDataset(
        tables,
        scenes=args.scene,
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
            cues=None if cues is None else CueOptions(cues, sweeps=args.traffic_rate == SWEEPS),
            tracks=track_options(args),
        )
    if shard.rank == 0:
        for token in skipped:
            console.print(f"skipped sample {token}: images are missing")
        console.print(f"{len(dataset) - len(skipped)} samples: {args.out}")
        if args.tracks is not None:
            console.print(f"tracks: {args.tracks}")
    return 0
