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

from bevstack.cli.label_data import add_label_data, label_data_option
from bevstack.cli.label_tasks import make_label_task
from bevstack.cli.options import (
    add_allow_outside,
    add_classes,
    add_config,
    add_device,
    add_no_verify,
    add_overrides,
    add_scenes,
    add_strict_rig,
)
from bevstack.cli.picture_tasks import add_coco, make_task
from bevstack.cli.pictures_option import add_pictures
from bevstack.cli.train_pictures import check_pictures, make_picture_task
from bevstack.cli.train_traffic import add_traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from bevstack.config import Config, TrainingConfig
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.tables.reader import Tables
    from bevstack.tasks.task import Task
    from bevstack.training import Evaluation, Listeners, Skipped, StepReport, TrainingResult
    from bevstack.training.processes import Processes

# Names of figures in messages; figures of lights and signs keep theirs
NAMES = {
    "headline": "mean AP",
    "mask_ap": "mask AP",
    "mean_iou": "mean IoU",
    "nds": "NDS",
    "map": "mAP",
    "detection3d/nds": "NDS",
    "detection3d/map": "mAP",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack train``."""
    add_config(parser, required=True)
    add_overrides(parser)
    parser.add_argument("--nuscenes", type=Path, metavar="ROOT", help="folder of the data set")
    parser.add_argument("--version", help="folder of the tables, e.g. v1.0-mini")
    add_scenes(parser, required=False, purpose="train on")
    held_out = parser.add_mutually_exclusive_group()
    held_out.add_argument(
        "--held-out",
        metavar="SPLIT",
        help="split to evaluate on, e.g. mini_val, every training.evaluate_every steps and at "
        "the end (default: no evaluation)",
    )
    held_out.add_argument(
        "--held-out-scene",
        action="append",
        metavar="NAME",
        help="scene to evaluate on; may be repeated",
    )
    add_classes(parser)
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
    add_traffic(parser)
    add_pictures(
        parser.add_argument_group("labelled pictures of lights and signs, instead of a data set"),
        purpose="train on",
        many=True,
    )
    add_coco(parser, purpose="train on")
    add_label_data(parser, purpose="train on")
    add_no_verify(parser)
    add_strict_rig(parser)
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="number of steps instead of the configured one; stages keep their proportion",
    )
    add_device(parser)
    add_allow_outside(parser)
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
    from bevstack.runtime.devices import choose_device
    from bevstack.training import train
    from bevstack.training.processes import join_processes, leave_processes
    from bevstack.training.progress_bar import make_console, training_progress

    labels = label_data_option(args)
    if args.coco is None and labels is None:
        check_pictures(args)
    processes = join_processes(choose_device(args.device))
    console = make_console()
    console.quiet = not processes.is_first
    if labels is not None:
        task: Task = make_label_task(args, console)
    elif args.coco is not None:
        task = make_task(args, console)
    elif args.pictures:
        task = make_picture_task(args, _config(args), console)
    else:
        task = _task_of_dataset(args, _config(args), processes, console)
    if args.dry_run:
        return 0
    recipe = task.recipe
    with training_progress(console, recipe.num_steps, recipe.log_every) as report:
        result = train(
            task,
            args.out,
            resume=args.resume,
            start=args.weights,
            verify=args.verify,
            processes=processes,
            listeners=_listeners(report, console, task.headline),
        )
    leave_processes()
    if processes.is_first:
        _print_result(result, recipe, args.out, console, task.headline)
    return 0


def _task_of_dataset(
    args: argparse.Namespace, config: Config, processes: Processes, console: Console
) -> Task:
    """Open the data set, print the plan and notes, and build the task."""
    from bevstack.evaluation.analysis.bootstrap import FEWEST_SCENES
    from bevstack.tables.reader import Tables

    tables = Tables(
        args.nuscenes, args.version, classes=args.classes, allow_outside=args.allow_outside
    )
    dataset = _dataset(tables, config, args.split or args.scene)
    held_out = args.held_out or args.held_out_scene
    held_out = held_out and _dataset(tables, config, held_out)
    if held_out is None and config.training.evaluate_every:
        console.print("note: without --held-out, the training is not evaluated")
        config = replace(config, training=replace(config.training, evaluate_every=0))
    shared = set(dataset.scene_names) & set(held_out.scene_names if held_out else ())
    if shared:
        console.print(f"note: held-out scenes are also trained on: {', '.join(sorted(shared))}")
    task = _task(args, config, dataset, held_out)
    _print_plan(args, config, dataset, held_out, processes, console)
    if not args.dry_run and held_out is not None and len(held_out.scene_names) < FEWEST_SCENES:
        console.print(
            f"note: {len(held_out.scene_names)} held-out scenes are too few to tell which weights "
            f"are best; {FEWEST_SCENES} are needed"
        )
    return task


def _task(
    args: argparse.Namespace,
    config: Config,
    dataset: NuScenesDataset,
    held_out: NuScenesDataset | None,
) -> Task:
    """Build the task of the boxes, or the joint task of boxes, lights and signs."""
    from bevstack.cli.train_traffic import make_joint_task
    from bevstack.tasks.detection3d import Detection3D

    if config.traffic is None:
        return Detection3D(config, dataset, held_out=held_out)
    return make_joint_task(args, config, dataset, held_out)


def _config(args: argparse.Namespace) -> Config:
    """Read the configuration, change its fields, and scale the recipe to ``--steps``."""
    from bevstack.config import load_config

    config = load_config(args.config, args.overrides)
    if args.steps is None:
        return config
    for override in args.overrides:
        if override.partition("=")[0].strip() == "training.num_steps":
            raise ValueError(
                f"training.num_steps must not be given with --steps, which scales all stages; got "
                f"{override} and --steps {args.steps}"
            )
    return replace(config, training=config.training.with_num_steps(args.steps))


def _dataset(tables: Tables, config: Config, split: str | list[str]) -> NuScenesDataset:
    from bevstack.datasets.nuscenes import NuScenesDataset

    return NuScenesDataset(
        tables,
        scenes=None if isinstance(split, str) else split,
        split=split if isinstance(split, str) else None,
        bev_frame=config.grid.frame,
        class_names=config.class_names,
    )


def _print_plan(
    args: argparse.Namespace,
    config: Config,
    dataset: NuScenesDataset,
    held_out: NuScenesDataset | None,
    processes: Processes,
    console: Console,
) -> None:
    """Print one line on the training, and with ``--dry-run`` the whole plan."""
    from bevstack.costs.training_plan import plan_training

    recipe = config.training
    console.print(
        f"{config.name}: {recipe.num_steps} steps of {recipe.batch_size} samples "
        f"from the {len(dataset)} of {args.split or ', '.join(args.scene)}, on {processes.device}"
    )
    if args.dry_run:
        plan = plan_training(
            config, len(dataset), processes.world_size, evaluates=held_out is not None
        )
        for line in plan.lines():
            console.print(line)


def _listeners(report: Callable[[StepReport], None], console: Console, headline: str) -> Listeners:
    from bevstack.training import Listeners

    def print_score(evaluation: Evaluation) -> None:
        figures = evaluation.score.figures
        best = f", highest {NAMES.get(headline, headline)} so far" if evaluation.is_best else ""
        shown = [
            name
            for name in figures
            if name in NAMES or ("/" in name and not name.startswith("detection3d/"))
        ]
        text = ", ".join(f"{NAMES.get(name, name)} {figures[name]:.4f}" for name in shown)
        console.print(
            f"held-out scenes after step {evaluation.step} ({evaluation.elapsed_s:.0f} s of "
            f"training): {text}{best}"
        )

    def print_skipped(skipped: Skipped) -> None:
        samples = ", ".join(skipped.sample_tokens)
        console.print(f"skipped at step {skipped.step}, samples {samples}: {skipped.reason}")

    return Listeners(step=report, evaluation=print_score, skipped=print_skipped)


def _print_result(
    result: TrainingResult, recipe: TrainingConfig, out: Path, console: Console, headline: str
) -> None:
    from bevstack.render.plots import missing_matplotlib
    from bevstack.training.curve_plots import write_learning_curve, write_score_curve

    curve, scores = out / "learning_curve.png", out / "score_curve.png"
    curves = {"NDS": "nds", "mAP": "map"} if headline == "nds" else {headline: headline}
    console.print(f"weights: {result.weights}\nlog: {result.log}")
    problem = missing_matplotlib()
    if problem is not None:
        console.print(f"no curve is drawn: {problem}")
        return
    write_learning_curve(result.log, curve, recipe)
    console.print(f"curve: {curve}")
    if write_score_curve(result.evaluations, scores, curves, recipe):
        console.print(f"best weights: {result.best}\nscores: {result.evaluations}, {scores}")
