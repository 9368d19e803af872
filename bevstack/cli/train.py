"""Train a configuration on a data set in nuScenes' format and write checkpoints.

After an interruption, the same command with --resume continues from the last checkpoint. It does
the same steps as an uninterrupted training; on a CPU with the same number of threads, they are
equal bit for bit. Under `torchrun` the processes share the samples of each step. A training may
continue with another number of processes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.verify_option import add_no_verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from bevstack.config import Config, TrainingConfig
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.training import Evaluation, Listeners, Skipped, StepReport, TrainingResult
    from bevstack.training.processes import Processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack train``."""
    parser.add_argument(
        "--config", required=True, help="name of a packaged configuration, or a .py file"
    )
    parser.add_argument(
        "--nuscenes", type=Path, required=True, metavar="ROOT", help="folder of the data set"
    )
    parser.add_argument("--version", required=True, help="folder of the tables, e.g. v1.0-mini")
    parser.add_argument("--split", required=True, help="split to train on, e.g. mini_train")
    parser.add_argument(
        "--held-out",
        metavar="SPLIT",
        help="split to evaluate on, e.g. mini_val, every training.evaluate_every steps and at "
        "the end",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for checkpoints and logs"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in --out"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="initial weights of this configuration, from convert-weights or another training",
    )
    add_no_verify(parser)
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="number of steps instead of the configured one; stages keep their proportion",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only print the plan: parameters, GFLOP, memory, steps and samples",
    )


def run(args: argparse.Namespace) -> int:
    """Train the model and print the paths of weights, logs and curves.

    Raises:
        FileExistsError: ``--out`` holds checkpoints and ``--resume`` is not given.
        FileNotFoundError: the configuration, data set, a split, an image or weights do not exist.
        FloatingPointError: a loss or gradient is not finite.
        ValueError: options or files that do not fit.
    """
    from bevstack.config import load_config
    from bevstack.tasks.detection3d import Detection3D
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
    _print_plan(args, config, len(dataset), processes, console)
    if args.dry_run:
        return 0
    recipe = config.training
    with training_progress(console, recipe.num_steps, recipe.log_every) as report:
        result = train(
            Detection3D(config, dataset, held_out=held_out),
            args.out,
            resume=args.resume,
            start=args.weights,
            verify=args.verify,
            processes=processes,
            listeners=_listeners(report, console),
        )
    leave_processes()
    if processes.is_first:
        _print_result(result, recipe, args.out, console)
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


def _print_plan(
    args: argparse.Namespace,
    config: Config,
    samples: int,
    processes: Processes,
    console: Console,
) -> None:
    """Print one line on the training, and with ``--dry-run`` the whole plan."""
    from bevstack.costs.training_plan import plan_training

    recipe = config.training
    console.print(
        f"{config.name}: {recipe.num_steps} steps of {recipe.batch_size} samples "
        f"from the {samples} of {args.split}"
    )
    if args.dry_run:
        plan = plan_training(args.config, samples, processes.world_size, steps=args.steps)
        for line in plan.lines():
            console.print(line)


def _listeners(report: Callable[[StepReport], None], console: Console) -> Listeners:
    from bevstack.training import Listeners

    def print_score(evaluation: Evaluation) -> None:
        figures = evaluation.score.figures
        best = ", best so far" if evaluation.is_best else ""
        console.print(
            f"held-out scenes after step {evaluation.step} ({evaluation.elapsed_s:.0f} s of "
            f"training): NDS {figures['nds']:.4f}, mAP {figures['map']:.4f}{best}"
        )

    def print_skipped(skipped: Skipped) -> None:
        samples = ", ".join(skipped.sample_tokens)
        console.print(f"skipped at step {skipped.step}, samples {samples}: {skipped.reason}")

    return Listeners(step=report, evaluation=print_score, skipped=print_skipped)


def _print_result(
    result: TrainingResult, recipe: TrainingConfig, out: Path, console: Console
) -> None:
    from bevstack.render.plots import missing_matplotlib
    from bevstack.training.curve_plots import write_learning_curve, write_score_curve

    curve, scores = out / "learning_curve.png", out / "score_curve.png"
    console.print(f"weights: {result.weights}\nlog: {result.log}")
    problem = missing_matplotlib()
    if problem is not None:
        console.print(f"no curve is drawn: {problem}")
        return
    write_learning_curve(result.log, curve, recipe)
    console.print(f"curve: {curve}")
    if write_score_curve(result.evaluations, scores, {"NDS": "nds", "mAP": "map"}, recipe):
        console.print(f"best weights: {result.best}\nscores: {result.evaluations}, {scores}")
