"""Make a small synthetic world, train a model on it, score the model and draw its predictions.

Takes about ten minutes on two processor cores and needs no data set and no GPU. The command writes
the model, its scores, the learning curve and pictures of predicted and true boxes into one folder.
After an interruption, the same command continues.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.options import add_device

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.config import Config
    from bevstack.datasets.nuscenes import NuScenesDataset
    from bevstack.evaluation.detection3d.metrics import DetectionMetrics
    from bevstack.synthetic import WorldSpec

TRAIN_SPLIT, VAL_SPLIT = "synth_train", "synth_val"
MODEL, PRIOR, RANDOM = "model", "bird's-eye prior", "random boxes"
NUM_PICTURES = 6
EARLY_STEP = 20  # the final loss is compared with the loss around this step
NUM_STEPS = 1300  # of the first stage only, which learns most in ten minutes
CURVE = "learning_curve.png"
QUICK_STEPS = 6  # half of them in each of the two stages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack train-demo``."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/train_demo"),
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="train only a few steps on a few scenes, as a test of the installation",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Run the training demo.

    Raises:
        OSError: the folder cannot be written, or holds files of another world.
    """
    from bevstack.runtime.devices import choose_device
    from bevstack.training.progress_bar import make_console

    args.device = choose_device(args.device)
    console = make_console()
    args.out.mkdir(parents=True, exist_ok=True)
    spec, config = _world_spec(args.quick), _config(args.quick)
    train_set, val_set = _make_world(args.out / "world", spec, config, console)
    losses = _train(config, train_set, args, console)
    metrics = _predict_and_score(val_set, args, console)
    _draw(val_set, args, console)
    _print_summary(losses, metrics, args, console)
    return 0


def _config(quick: bool) -> Config:
    """Return a configuration for minutes of training."""
    from bevstack.config import load_config

    config = load_config("tiny_cpu_t4_brief")
    steps, first = (QUICK_STEPS, QUICK_STEPS // 2) if quick else (NUM_STEPS, NUM_STEPS)
    recipe = dataclasses.replace(
        config.training,
        num_steps=steps,
        perspective_steps=first,
        warmup_steps=0 if quick else config.training.warmup_steps,
        checkpoint_every=min(steps, 100),
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
) -> list[float]:
    """Train or continue, draw the learning curve, and return the loss of every step."""
    from bevstack.render.plots import missing_matplotlib
    from bevstack.tasks.detection3d import Detection3D
    from bevstack.training import train
    from bevstack.training.curve_plots import write_learning_curve
    from bevstack.training.jsonl import read_jsonl
    from bevstack.training.progress_bar import training_progress

    recipe = config.training
    console.print(
        f"training {config.name} on {len(dataset)} samples, {recipe.batch_size} per step: "
        f"{recipe.num_steps} steps, {recipe.perspective_steps} of them with backbone and "
        "perspective head only"
    )
    with training_progress(console, recipe.num_steps, recipe.log_every * 5) as report:
        task = Detection3D(config, dataset)
        result = train(task, args.out / "train", resume=True, device=args.device, report=report)
    if result.resumed_from:
        console.print(
            f"continued from step {result.resumed_from}; remove {args.out / 'train'} to start "
            "again from the first step"
        )
    problem = missing_matplotlib()
    if problem is None:
        write_learning_curve(result.log, args.out / CURVE, recipe)
    else:
        console.print(f"no curve is drawn: {problem}")
    shutil.copyfile(result.weights, args.out / result.weights.name)
    return [entry["loss"] for entry in read_jsonl(result.log)]


def _predict_and_score(
    val_set: NuScenesDataset, args: argparse.Namespace, console: Console
) -> dict[str, DetectionMetrics]:
    """Predict the held-out scenes, score the model and two baselines, and print the table."""
    from bevstack.cli.evaluate_tables import print_metrics
    from bevstack.evaluation.baselines.priors import best_bev_prior, random_boxes
    from bevstack.evaluation.scoring import evaluate_results
    from bevstack.runtime.loading import load
    from bevstack.runtime.predict import predict_dataset

    results = args.out / "results_nusc.json"
    tables = val_set.tables
    splits = (TRAIN_SPLIT, VAL_SPLIT)
    with console.status("predicting the held-out scenes"):
        predict_dataset(load(args.out / "model.safetensors", args.device), val_set, results)
    with console.status("scoring"):
        scenes = (tables.root, tables.version, VAL_SPLIT)
        prior = best_bev_prior(tables, *splits)
        metrics = {
            MODEL: evaluate_results(results, *scenes, args.out),
            PRIOR: prior.metrics,
            RANDOM: evaluate_results(random_boxes(tables, *splits), *scenes),
        }
    console.print(f"\nnuScenes metric on the held-out scenes ({len(val_set)} samples):")
    print_metrics(console, list(metrics.items()))
    return metrics


def _draw(val_set: NuScenesDataset, args: argparse.Namespace, console: Console) -> None:
    from bevstack.runtime.pictures import draw_results

    middle_of_scenes = [
        val_set.sample_token(indices[len(indices) // 2])
        for indices in val_set.scene_indices().values()
    ]
    with console.status("drawing"):
        pictures = draw_results(
            val_set.tables.root,
            val_set.tables.version,
            args.out / "results_nusc.json",
            args.out / "pictures",
            samples=middle_of_scenes[:NUM_PICTURES],
        )
    console.print(f"\npictures of predicted and true boxes: {pictures[0].parent}")
    for picture in pictures:
        console.print(f"  {picture}")


def _print_summary(
    losses: list[float],
    metrics: dict[str, DetectionMetrics],
    args: argparse.Namespace,
    console: Console,
) -> None:
    early_step = min(EARLY_STEP, len(losses))
    early, final = _mean_around(losses, early_step), _mean_around(losses, len(losses))
    curve = args.out / CURVE
    console.print(
        f"\nloss: {early:.2f} at step {early_step}, {final:.2f} at the end "
        f"({final / early:.2f} times as high)" + (f"; curve: {curve}" if curve.is_file() else "")
    )
    console.print(
        "This world is synthetic. Its NDS shows how well the model predicts boxes from images in "
        "scenes that it was not trained on. It is not comparable with published nuScenes figures."
    )
    if args.quick:
        console.print("--quick: a test of the installation; a few steps are too few to learn.")
    model, prior = metrics[MODEL].nds, metrics[PRIOR].nds
    if model <= prior and not args.quick:  # the quick world has too few scenes for a comparison
        console.print(
            "After this short training, the prior, which uses no image, still scores higher: NDS "
            f"{prior:.3f} against {model:.3f} of the model."
        )
    console.print(
        f"model: {args.out / 'model.safetensors'}, results: {args.out / 'results_nusc.json'}, "
        f"metrics: {args.out / 'metrics_summary.json'}"
    )


def _mean_around(losses: list[float], step: int, reach: int = 5) -> float:
    """Return the mean loss within ``reach`` steps of a step; single steps are too noisy."""
    window = losses[max(step - 1 - reach, 0) : step + reach]
    return sum(window) / len(window)
