"""Trains a configuration on a data set in nuScenes' format and writes checkpoints.

After an interruption the same command with --resume goes on from the last checkpoint, and does
the very steps the uninterrupted run would have done (on a CPU bit for bit, with as many threads).
Under `torchrun` the processes share each step's samples; a run may go on with another number of
them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from bevstack.config import Config
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.training import Evaluation, Listeners, Skipped, StepReport, TrainingResult
    from bevstack.training.processes import Processes


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
        "--held-out",
        metavar="SPLIT",
        help="scenes to evaluate on, e.g. mini_val: each training.evaluate_every steps and last",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the checkpoints"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in --out"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights of this configuration to begin with, of convert-weights or another training",
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="the recipe in so many steps instead of the configured number, stages in proportion",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only say what would be done: parameters, GFLOP, memory, steps, samples",
    )


def run(args: argparse.Namespace) -> int:
    """Trains, and says where the weights are."""
    from bevstack.config import load_config
    from bevstack.training import train
    from bevstack.training.processes import join_processes, leave_processes
    from bevstack.training.progress_bar import make_console, training_progress

    config = load_config(args.config)
    if args.steps is not None:
        config = replace(config, training=config.training.with_num_steps(args.steps))
    processes = join_processes(args.device)
    console = make_console()
    console.quiet = not processes.is_first
    dataset = _dataset(args, config, args.split)
    held_out = None if args.held_out is None else _dataset(args, config, args.held_out)
    _say_plan(args, config, len(dataset), processes, console)
    if args.dry_run:
        return 0
    recipe = config.training
    with training_progress(console, recipe.num_steps, recipe.log_every) as report:
        result = train(
            config,
            dataset,
            args.out,
            held_out=held_out,
            resume=args.resume,
            start=args.weights,
            processes=processes,
            listeners=_listeners(report, console),
        )
    leave_processes()
    if processes.is_first:
        _say_result(result, args.out, console)
    return 0


def _dataset(args: argparse.Namespace, config: Config, split: str) -> NuScenesDataset:
    from bevstack.datasets.nuscenes import NuScenesDataset

    return NuScenesDataset(
        args.nuscenes,
        args.version,
        split=split,
        bev_frame=config.grid.frame,
        class_names=config.class_names,
    )


def _say_plan(
    args: argparse.Namespace,
    config: Config,
    samples: int,
    processes: Processes,
    console: Console,
) -> None:
    """One line; the whole plan where nothing else is wanted."""
    from bevstack.costs.training_plan import plan_training

    recipe = config.training
    console.print(
        f"{config.name}: {recipe.num_steps} steps of {recipe.batch_size} samples "
        f"on the {samples} of {args.split}"
    )
    if args.dry_run:
        plan = plan_training(args.config, samples, processes.world_size, steps=args.steps)
        for line in plan.lines():
            console.print(line)


def _listeners(report: Callable[[StepReport], None], console: Console) -> Listeners:
    from bevstack.training import Listeners

    def say_score(evaluation: Evaluation) -> None:
        metrics = evaluation.metrics
        best = ", the best so far" if evaluation.is_best else ""
        console.print(
            f"held-out scenes after step {evaluation.step} ({evaluation.elapsed_s:.0f} s in "
            f"steps): NDS {metrics.nds:.4f}, mAP {metrics.mean_average_precision:.4f}{best}"
        )

    def say_skipped(skipped: Skipped) -> None:
        samples = ", ".join(skipped.sample_tokens)
        console.print(f"skipped at step {skipped.step}: {samples}: {skipped.reason}")

    return Listeners(step=report, evaluation=say_score, skipped=say_skipped)


def _say_result(result: TrainingResult, out: Path, console: Console) -> None:
    from bevstack.training.curve_plots import write_learning_curve, write_score_curve

    curve, scores = out / "learning_curve.png", out / "score_curve.png"
    write_learning_curve(result.log, curve)
    console.print(f"weights: {result.weights}\nlog: {result.log}\ncurve: {curve}")
    if write_score_curve(result.evaluations, scores):
        console.print(f"best weights: {result.best}\nscores: {result.evaluations}, {scores}")
