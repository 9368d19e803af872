"""The parts of ``bevstack predict`` for each kind of input: pictures, a rig, a drive, tables."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bevstack.cli.track_options import track_options

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.runtime.frame_source import FrameSource
    from bevstack.runtime.predict_cues import CueOptions
    from bevstack.runtime.stream_protocol import FrameDetector
    from bevstack.tables.reader import Tables


def open_tables(args: argparse.Namespace) -> Tables:
    """Open the tables and look the scenes up, before the model is loaded."""
    from bevstack.tables.reader import Tables
    from bevstack.tables.splits import scenes_of_split

    tables = Tables(args.nuscenes, args.version, allow_outside=args.allow_outside)
    scenes_of_split(tables, args.split or args.scene)
    return tables


def open_frames(args: argparse.Namespace) -> FrameSource:
    """Open the rig and list the frames, before the model is loaded."""
    from bevstack.runtime import frame_source

    source = frame_source.open_frames(
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


def run_pictures(args: argparse.Namespace, console: Console) -> int:
    """Predict the lights and signs of single pictures."""
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


def run_rig(
    args: argparse.Namespace, detector: FrameDetector, console: Console, cues: CueOptions | None
) -> int:
    """Predict one frame of a rig."""
    from bevstack.runtime.predict_rig import predict_rig

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


def run_frames(
    args: argparse.Namespace,
    source: FrameSource,
    detector: FrameDetector,
    console: Console,
    cues: CueOptions | None,
) -> int:
    """Predict the frames of a drive."""
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


def run_nuscenes(
    args: argparse.Namespace,
    tables: Tables,
    detector: FrameDetector,
    console: Console,
    cues: CueOptions | None,
) -> int:
    """Predict scenes of a data set."""
    from rich.progress import Progress

    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.runtime.finished_scenes import join_processes
    from bevstack.runtime.predict import predict_dataset

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
            cues=cues,
            tracks=track_options(args),
        )
    if shard.rank == 0:
        for token in skipped:
            console.print(f"skipped sample {token}: images are missing")
        console.print(f"{len(dataset) - len(skipped)} samples: {args.out}")
        if args.tracks is not None:
            console.print(f"tracks: {args.tracks}")
    return 0
