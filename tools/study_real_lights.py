"""Compare lights learned on real pictures from the world's weights and from a random head.

    OMP_NUM_THREADS=1 python tools/study_real_lights.py --pictures kr=DIR:yolo:lamp:day
        --pictures cinta=DIR:yolo:housing --world world.safetensors --boxes boxes.safetensors
        --out out/real_lights

Both start from the same backbone and do equal steps, with the same seeds and folds. Every picture
is predicted by the model of its fold, which has not seen its photo or place. The same command
continues an interrupted study. The result is `study.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.cli.pictures_option import open_sets
from bevstack.config import Config, load_config
from bevstack.datasets.traffic_view.pictures import (
    PictureSamples,
    PictureSet,
    fold_numbers,
    split_fold,
)
from bevstack.evaluation.analysis.bootstrap import difference_intervals, intervals
from bevstack.evaluation.traffic.picture_scores import PictureFigures
from bevstack.models.build_traffic import traffic_section
from bevstack.models.weights import read_weights_file, task_weights
from bevstack.tables.picture_elements import read_picture_elements, write_picture_elements
from bevstack.tasks.traffic_pictures import PictureTraffic, color_blobs_of, predict_samples
from bevstack.training import train
from bevstack.training.progress_bar import make_console, training_progress
from bevstack.types.labelled_images import LabelledImage


class SeedMean:
    """The mean of figures over the seeds of one arm."""

    def __init__(self, figures: Sequence[PictureFigures]) -> None:
        self._figures = figures
        self.num_scenes = figures[0].num_scenes

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of ``figures``."""
        return self._figures[0].names

    def figures(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute the mean of each figure."""
        return np.asarray(np.mean([each.figures(weights) for each in self._figures], axis=0))


def predict_fold(
    config: Config, sets: Sequence[PictureSet], fold: tuple[int, int], start: Path, out: Path
) -> dict[str, list[LabelledImage]]:
    """Train outside a fold, predict the pictures in it, and return them by set."""
    files = {own.name: out / f"{own.name}.json" for own in sets}
    if not all(path.is_file() for path in files.values()):
        parts = [split_fold(own, *fold) for own in sets]
        section = traffic_section(config)
        trained = PictureSamples([a for a, _ in parts], config=section, images=config.images)
        recipe = config.training
        with training_progress(make_console(), recipe.num_steps, recipe.log_every) as report:
            task = PictureTraffic(config, trained)
            result = train(task, out, resume=True, start=start, report=report)
        weights = task_weights(read_weights_file(result.weights).tensors, "traffic")
        for _, judged in parts:
            samples = PictureSamples([judged], config=section, images=config.images)
            found = predict_samples(weights, config, samples, torch.device("cpu"))
            write_picture_elements(files[judged.name], found)
    return {name: list(read_picture_elements(path)) for name, path in files.items()}


def figures_of(pictures: PictureSet, predicted: Sequence[LabelledImage]) -> PictureFigures:
    """Return the figures of predictions, which are in any order."""
    by_path = {image.path: image for image in predicted}
    rows = [row for row, image in enumerate(pictures.images) if image.path in by_path]
    truth = [pictures.images[row] for row in rows]
    names = list(dict.fromkeys(pictures.groups[row] for row in rows))
    group = np.array([names.index(pictures.groups[row]) for row in rows])
    present = sorted({e.attribute for image in truth for e in image.elements})
    found = [by_path[image.path] for image in truth]
    return PictureFigures(truth, found, group=group, attributes=present)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pictures", action="append", required=True, metavar="SPEC")
    parser.add_argument("--world", type=Path, required=True, help="weights of the lights world")
    parser.add_argument("--boxes", type=Path, required=True, help="weights of the boxes alone")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--config", default="traffic_lights_real")
    parser.add_argument("--steps", type=int, default=1000, metavar="N")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--folds", type=int, default=3, metavar="N")
    parser.add_argument(
        "--only-fold", type=int, metavar="K", help="train and judge on one fold, to save time"
    )
    parser.add_argument("--draws", type=int, default=1000, metavar="N")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    return parser.parse_args()


def run_arms(
    args: argparse.Namespace, sets: Sequence[PictureSet], folds: Sequence[int]
) -> dict[str, dict[str, list[PictureFigures]]]:
    """Train and predict all that is left; return the figures of each seed by set and arm."""
    base = load_config(args.config, args.overrides)
    figures: dict[str, dict[str, list[PictureFigures]]] = {own.name: {} for own in sets}
    for seed in range(args.seeds):
        recipe = base.training.with_num_steps(args.steps)
        recipe = dataclasses.replace(recipe, seed=seed, evaluate_every=0)
        config = dataclasses.replace(base, training=recipe)
        for arm, start in (("world", args.world), ("random", args.boxes)):
            found: dict[str, list[LabelledImage]] = {own.name: [] for own in sets}
            for fold in folds:
                out = args.out / arm / f"seed{seed}" / f"fold{fold}"
                make_console().print(f"{arm}, seed {seed}, fold {fold}")
                part = predict_fold(config, sets, (fold, args.folds), start, out)
                for name, images in part.items():
                    found[name] += images
            for own in sets:
                scored = figures_of(own, found[own.name])
                figures[own.name].setdefault(arm, []).append(scored)
    return figures


def main() -> None:
    """Run what is left of the study, and print and write its result."""
    args = parse_arguments()
    sets = open_sets(args.pictures)
    folds = list(range(args.folds)) if args.only_fold is None else [args.only_fold]
    figures = run_arms(args, sets, folds)
    rows = []
    for own in sets:
        arms = {arm: SeedMean(each) for arm, each in figures[own.name].items()}
        inside = [number in folds for number in fold_numbers(own.groups, args.folds)]
        judged = own.select(inside)
        rule = figures_of(judged, color_blobs_of(judged))
        scored = [intervals(each, draws=args.draws) for each in (*arms.values(), rule)]
        change = difference_intervals(arms["random"], arms["world"], draws=args.draws)
        for world, random, blobs, gain in zip(*scored, change, strict=True):
            parts = {"world": world, "random": random, "color_blobs": blobs, "gain": gain}
            row = {name: dataclasses.asdict(part) for name, part in parts.items()}
            rows.append({"pictures": own.name, "attribute": world.name, **row})
            text = ", ".join(
                f"{name} {p.value:.3f} ({p.low:.3f} to {p.high:.3f})" for name, p in parts.items()
            )
            make_console().print(f"{own.name} {world.name}: {text}")
    result = {"steps": args.steps, "seeds": args.seeds, "folds": folds, "rows": rows}
    (args.out / "study.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
