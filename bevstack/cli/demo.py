"""Makes a small synthetic world, trains a model on it, scores it and draws what it found.

Takes some minutes on two processor cores and needs no data set and no GPU. Writes the model, the
metrics, the learning curve and pictures of predicted and true boxes into one folder. Started again
after an interruption, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.config import Config
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.synthetic import WorldSpec

TRAIN_SPLIT, VAL_SPLIT = "synth_train", "synth_val"
EARLY_STEP = 20  # the loss is compared with that of this step
QUICK_STEPS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack demo``."""
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few steps on a few scenes: shows that everything runs, not that it learns",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Runs the demo."""
    from bevstack.cli.progress import make_console

    console = make_console()
    args.out.mkdir(parents=True, exist_ok=True)
    spec, config = _world_spec(args.quick), _config(args.quick)
    train_set, val_set = _make_world(args.out / "world", spec, config, console)
    losses = _train(config, train_set, args, console)
    _predict_and_score(train_set, val_set, args, console)
    _draw(val_set, args, console)
    _say_what_it_means(losses, args, console)
    return 0


def _config(quick: bool) -> Config:
    from bevstack.config import load_config

    config = load_config("tiny_cpu")
    if not quick:
        return config
    recipe = dataclasses.replace(
        config.training, num_steps=QUICK_STEPS, warmup_steps=0, checkpoint_every=QUICK_STEPS
    )
    return dataclasses.replace(config, training=recipe)


def _world_spec(quick: bool) -> WorldSpec:
    from bevstack.synthetic import WorldSpec

    processes = os.cpu_count() or 1
    if quick:
        return WorldSpec(train_scenes=2, val_scenes=2, samples_per_scene=3, processes=processes)
    return WorldSpec(train_scenes=90, val_scenes=12, samples_per_scene=5, processes=processes)


def _make_world(
    root: Path, spec: WorldSpec, config: Config, console: Console
) -> tuple[NuScenesDataset, NuScenesDataset]:
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.synthetic import make_world

    with console.status("making a synthetic world"):
        summary = make_world(root, spec)
    console.print(
        f"world: {summary.scenes} scenes, {summary.samples} samples, {summary.annotations} boxes "
        f"in {summary.seconds:.0f} s: {root}"
    )
    train_set, val_set = (
        NuScenesDataset(
            root,
            spec.version,
            split=split,
            bev_frame=config.grid.frame,
            class_names=config.class_names,
        )
        for split in (TRAIN_SPLIT, VAL_SPLIT)
    )
    return train_set, val_set


def _train(
    config: Config, dataset: NuScenesDataset, args: argparse.Namespace, console: Console
) -> list[tuple[int, float]]:
    """Trains, or goes on; draws the curve; gives (step, loss) of every step."""
    from bevstack.cli.progress import training_progress
    from bevstack.render.curves import draw_learning_curve
    from bevstack.render.files import write_picture
    from bevstack.training import train
    from bevstack.training.log import read_log

    recipe = config.training
    console.print(
        f"training {config.name}: {recipe.num_steps} steps of {recipe.batch_size} samples "
        f"on {len(dataset)}"
    )
    with training_progress(console, recipe.num_steps, recipe.log_every * 5) as report:
        result = train(
            config, dataset, args.out / "train", resume=True, device=args.device, report=report
        )
    if result.resumed_from:
        console.print(
            f"went on from step {result.resumed_from}; remove {args.out / 'train'} to start anew"
        )
    entries = read_log(result.log)
    write_picture(args.out / "learning_curve.png", draw_learning_curve(entries))
    shutil.copyfile(result.weights, args.out / result.weights.name)
    return [(int(entry["step"]), entry["loss"]) for entry in entries]


def _predict_and_score(
    train_set: NuScenesDataset,
    val_set: NuScenesDataset,
    args: argparse.Namespace,
    console: Console,
) -> None:
    """Writes the model's and the baselines' submissions, scores all and prints the table."""
    from bevstack.evaluation.baselines import bev_prior, random_boxes
    from bevstack.evaluation.devkit import evaluate_with_devkit
    from bevstack.evaluation.submission import write_submission
    from bevstack.evaluation.table import format_table
    from bevstack.runtime.detector import load
    from bevstack.runtime.predict import predict_dataset

    detector = load(args.out / "model.safetensors", args.device)
    results = args.out / "results_nusc.json"
    with console.status("predicting the held-out scenes"):
        predict_dataset(detector, val_set, results)
    baselines = args.out / "baselines"
    submissions = {"model": results}
    for name, make in (("bird's-eye prior", bev_prior), ("random boxes", random_boxes)):
        path = baselines / f"{name.replace(' ', '_').replace(chr(39), '')}.json"
        write_submission(path, make(train_set.tables, TRAIN_SPLIT, VAL_SPLIT))
        submissions[name] = path
    metrics = {}
    with console.status("scoring with nuscenes-devkit"):
        for name, path in submissions.items():
            out_dir = args.out if name == "model" else path.with_suffix("")
            metrics[name] = evaluate_with_devkit(
                path, val_set.tables.root, val_set.tables.version, VAL_SPLIT, out_dir
            )
    console.print(f"\nheld-out scenes ({len(val_set)} samples), nuscenes-devkit's own metric:")
    console.print(format_table(metrics))


def _draw(val_set: NuScenesDataset, args: argparse.Namespace, console: Console) -> None:
    raise NotImplementedError


def _say_what_it_means(
    losses: list[tuple[int, float]], args: argparse.Namespace, console: Console
) -> None:
    raise NotImplementedError
