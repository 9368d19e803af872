"""Trains a configuration on a data set in nuScenes' format and writes checkpoints.

After an interruption the same command with --resume goes on from the last checkpoint, and does
the very steps the uninterrupted run would have done.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack train``."""
    parser.add_argument(
        "--config", required=True, help="name of a packaged configuration, or a file"
    )
    parser.add_argument(
        "--nuscenes", type=Path, required=True, metavar="ROOT", help="folder of the data set"
    )
    parser.add_argument("--version", required=True, help="folder of its tables, e.g. v1.0-mini")
    parser.add_argument("--split", required=True, help="scenes to train on, e.g. mini_train")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the checkpoints"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in --out"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Trains, and says where the weights are."""
    from bevstack.cli.curves import write_learning_curve
    from bevstack.cli.progress import make_console, training_progress
    from bevstack.config import load_config
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.runtime.predict import join_processes
    from bevstack.training import train

    if join_processes().world_size > 1:
        raise ValueError("training must run in one process; got several: start it without torchrun")
    config = load_config(args.config)
    dataset = NuScenesDataset(
        args.nuscenes,
        args.version,
        split=args.split,
        bev_frame=config.grid.frame,
        class_names=config.class_names,
    )
    console = make_console()
    recipe = config.training
    console.print(
        f"{config.name}: {recipe.num_steps} steps of {recipe.batch_size} samples "
        f"on the {len(dataset)} of {args.split}"
    )
    with training_progress(console, recipe.num_steps, recipe.log_every) as report:
        result = train(
            config, dataset, args.out, resume=args.resume, device=args.device, report=report
        )
    curve = args.out / "learning_curve.png"
    write_learning_curve(result.log, curve)
    console.print(f"weights: {result.weights}\nlog: {result.log}\ncurve: {curve}")
    return 0
