"""Parts of verbs that work on objects in single pictures: train, predict and evaluate."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from bevstack.tasks.detection2d import Detection2D

_TRAINING_DATA = ("nuscenes", "version", "scene", "held_out_scene", "classes", "pictures")
_NOT_FOR_PICTURES = ("nuscenes", "version", "scene", "tracking", "openlane", "traffic", "elements")


def add_coco(parser: argparse.ArgumentParser, *, purpose: str) -> None:
    """Declare ``--coco``."""
    parser.add_argument(
        "--coco",
        type=Path,
        metavar="ROOT",
        help=f"folder of a data set in COCO's format to {purpose}, with --split: pictures in "
        "ROOT/SPLIT, objects in ROOT/annotations/instances_SPLIT.json",
    )


def make_task(args: argparse.Namespace, console: Console) -> Detection2D:
    """Open the pictures, print what they hold, and build the task.

    Raises:
        FileNotFoundError: there is no such configuration, split or folder.
        ValueError: options that do not fit, or a damaged file.
    """
    from bevstack.config.picture_detectors import load_picture_detector
    from bevstack.datasets.detection2d.coco import CocoDataset
    from bevstack.tasks.detection2d import Detection2D

    given = [name for name in _TRAINING_DATA if getattr(args, name)] + ["dry_run"] * args.dry_run
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} must be left out with --coco; got both")
    if args.split is None:
        raise ValueError("--split must be given with --coco, such as train2017; got none")
    config = load_picture_detector(args.config, args.overrides)
    recipe = config.training
    if args.steps is not None:
        recipe = recipe.with_num_steps(args.steps)
    if args.held_out is None:
        recipe = replace(recipe, evaluate_every=0)
    names = config.class_names
    dataset = CocoDataset(args.coco, args.split, class_names=names)
    held_out = args.held_out and CocoDataset(args.coco, args.held_out, class_names=names)
    console.print(
        f"{args.split}: {len(dataset)} pictures, {len(dataset.trainable())} of them with objects"
    )
    for reason, count in sorted(dataset.dropped.items()):
        console.print(f"{args.split}: not trained on, {reason}: {count}")
    return Detection2D(replace(config, training=recipe), dataset, held_out=held_out)


def predicts_objects(args: argparse.Namespace) -> bool:
    """Return True if the weights or the configuration of ``predict`` are of a 2D detector."""
    from bevstack.config.detection2d import DETECTION2D
    from bevstack.config.picture_detectors import find_picture_detector
    from bevstack.models.build import list_tasks
    from bevstack.models.weights import read_metadata
    from bevstack.runtime.shipped import weights_path

    if args.weights is not None:
        path = weights_path(args.weights)
        return path.is_file() and DETECTION2D in list_tasks(path, read_metadata(path))
    return args.config is not None and find_picture_detector(args.config) is not None


def run_predict(args: argparse.Namespace, console: Console) -> int:
    """Predict the objects in ``--images`` and write them in COCO's format.

    Raises:
        FileNotFoundError: the weights or the pictures do not exist.
        ValueError: options or files that do not fit.
        OSError: the results cannot be written.
    """
    import torch
    from rich.progress import Progress

    from bevstack.config.picture_detectors import find_picture_detector
    from bevstack.models.build_detection2d import read_detector2d
    from bevstack.runtime.devices import choose_device
    from bevstack.runtime.picture_detector import PictureDetector
    from bevstack.runtime.predict_pictures2d import predict_folder
    from bevstack.runtime.shipped import weights_path

    for option in ("track", "mirror", "lost", "frames", "cues", "manoeuvre", "manoeuvres"):
        if getattr(args, option):
            raise ValueError(f"--{option} must be left out for objects in pictures; got it")
    device = torch.device(choose_device(args.device))
    config = None
    if args.config is not None:
        config = find_picture_detector(args.config, args.overrides)
    if args.weights is None:
        assert config is not None  # predicts_objects
        console.print("note: without --weights, weights are random and objects have no meaning")
        detector = PictureDetector.random(config, device)
    else:
        weights, stored = read_detector2d(weights_path(args.weights), verify=args.verify)
        detector = PictureDetector.with_weights(weights, config or stored, device)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("predicting", total=None)
        pictures, objects = predict_folder(
            detector,
            args.images,
            args.out,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console.print(f"{objects} objects, {pictures} pictures: {args.out}")
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    """Score results in COCO's format; print the figures.

    Raises:
        FileNotFoundError: the annotations or the results do not exist.
        ValueError: options or files that do not fit.
    """
    import json

    from bevstack.cli.tables import print_lines
    from bevstack.evaluation.detection2d.coco_scores import read_results, score_results
    from bevstack.files import write_text_atomically

    given = [name for name in _NOT_FOR_PICTURES if getattr(args, name)]
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} must be left out with --coco; got both")
    results = args.results or args.file
    if results is None or args.split is None:
        missing = "--results" if results is None else "--split"
        raise ValueError(f"{missing} must be given with --coco; got none")
    annotations = args.coco / "annotations" / f"instances_{args.split}.json"
    if not annotations.is_file():
        raise FileNotFoundError(f"annotations must be a file; got {annotations}, which is not one")
    figures = score_results(annotations, read_results(results))
    path = (args.out or results.parent) / "coco_metrics.json"
    write_text_atomically(path, json.dumps(figures, indent=2))
    if args.json:
        print(json.dumps(figures))
        return 0
    kinds = [kind for kind in ("box", "mask") if f"{kind}_ap" in figures]
    rows = [("", *kinds)]
    for name in (key.removeprefix("box_") for key in figures if key.startswith("box_")):
        rows.append((name, *(f"{figures[f'{kind}_{name}']:.3f}" for kind in kinds)))
    print_lines(rows)
    print(f"metrics: {path}")
    return 0
