"""Baselines and the negative control of a segmentation on a world with dense labels.

    python tools/control_labels.py --config upernet_nano_dense --dense world \
        --split synth_train --held-out synth_val --out out/shuffled

Prints the held-out mean IoU of the most frequent class, and of the most frequent class at each
position, over all cameras and for each camera. Then it trains the configuration with the labels of
other pictures: it can learn positions at best. A stopped run continues with the same command.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from bevstack.config.segmenters import load_segmenter
from bevstack.datasets.segmentation.dense_world import read_dense_world
from bevstack.datasets.segmentation.labelled import LabelledPictures
from bevstack.evaluation.baselines.label_prior import LabelPrior
from bevstack.evaluation.segmentation.iou import LabelCounts
from bevstack.tables.reader import Tables
from bevstack.tasks.segmentation import Segmentation
from bevstack.training import train


def prior_scores(trained: LabelledPictures, held_out: LabelledPictures) -> dict[str, float]:
    """Return the mean IoU of labels without the picture, by the name of the rule."""
    classes = len(trained.class_names)
    whole, cameras = LabelPrior(classes), {}
    for index, own in enumerate(trained.files):
        labels = trained.labels(index)
        whole.add(labels)
        cameras.setdefault(own.picture.parent.name, LabelPrior(classes)).add(labels)
    counts = {name: LabelCounts(classes) for name in ("class", "position", "camera and position")}
    for index, own in enumerate(held_out.files):
        true = held_out.labels(index)
        camera = cameras.get(own.picture.parent.name, whole)
        counts["class"].add(np.full_like(true, whole.most_frequent()), true)
        counts["position"].add(whole.label_map(true.shape), true)
        counts["camera and position"].add(camera.label_map(true.shape), true)
    return {name: own.scores().mean_iou for name, own in counts.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print the baselines, and train the control if --out is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="name or file of a configuration")
    parser.add_argument("--dense", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", default="v1.0-synth", help="folder of the tables")
    parser.add_argument("--split", required=True, help="scenes to train on")
    parser.add_argument("--held-out", required=True, metavar="SPLIT", help="scenes to score on")
    parser.add_argument("--out", type=Path, metavar="DIR", help="train the control into DIR")
    args = parser.parse_args(arguments)
    config = load_segmenter(args.config)
    tables = Tables(args.dense, args.version)
    trained, held_out = (
        read_dense_world(tables, split).with_classes(config.class_names)
        for split in (args.split, args.held_out)
    )
    for name, figure in prior_scores(trained, held_out).items():
        print(f"mean IoU of the most frequent label by {name}: {figure:.4f}")
    if args.out is None:
        return 0
    shuffled = trained.with_shuffled_labels(config.training.seed)
    task = Segmentation(config, shuffled, held_out=held_out)
    result = train(task, args.out, resume=True)
    print(f"weights: {result.weights}\nscores: {result.evaluations}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
