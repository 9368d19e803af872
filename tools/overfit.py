"""Positive control: a detector that cannot memorise eight samples has a bug.

The program trains `tiny_cpu` on the eight samples of a small synthetic world and predicts the same
samples. It prints the mean AP at 1 m over the classes present, and exits with 1 if it is below the
required value.

    python tools/overfit.py --out out/overfit
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

from bevstack.config import Config, load_config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.scoring import SUMMARY_NAME, evaluate_results
from bevstack.runtime.loading import load
from bevstack.runtime.predict import predict_dataset
from bevstack.synthetic import WorldSpec, make_world
from bevstack.tables.names import DETECTION_RANGE_M
from bevstack.tasks.detection3d import Detection3D
from bevstack.training import train
from bevstack.training.progress_bar import make_console, training_progress

MIN_AP = 0.9
DISTANCE_M = "1.0"
SPEC = WorldSpec(train_scenes=4, val_scenes=1, samples_per_scene=2)


def overfit_config(num_steps: int) -> Config:
    """Return `tiny_cpu` for eight samples, half of them in each step, without augmentation."""
    config = load_config("tiny_cpu")
    recipe = dataclasses.replace(
        config.training, num_steps=num_steps, batch_size=4, checkpoint_every=num_steps
    )
    return dataclasses.replace(config, training=recipe)


def classes_present(dataset: NuScenesDataset) -> set[str]:
    """Return the classes with a scored true box: within range, with a lidar or radar point."""
    present = set()
    for index in range(len(dataset)):
        annotations = dataset.frame(index, load_images=False).annotations
        assert annotations is not None  # every sample of the world has annotations
        distances = annotations.boxes.center[:, :2].norm(dim=-1)
        for label, distance_m, points in zip(
            annotations.labels.tolist(), distances, annotations.num_points, strict=True
        ):
            name = dataset.class_names[label]
            if points > 0 and distance_m < DETECTION_RANGE_M[name]:
                present.add(name)
    return present


def main() -> int:
    """Run the control."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/overfit"), metavar="DIR")
    parser.add_argument(
        "--steps", type=int, default=1000, metavar="N", help="training steps (default 1000)"
    )
    args = parser.parse_args()
    console = make_console()
    spec = dataclasses.replace(SPEC, processes=os.cpu_count() or 1)
    make_world(args.out / "world", spec)
    config = overfit_config(args.steps)
    dataset = NuScenesDataset(args.out / "world", spec.version, split="synth_train")
    with training_progress(console, args.steps, 50) as report:
        result = train(Detection3D(config, dataset), args.out / "train", resume=True, report=report)
    results = args.out / "results_nusc.json"
    predict_dataset(load(result.weights), dataset, results)
    evaluate_results(results, dataset.root, spec.version, "synth_train", args.out)
    precisions = json.loads((args.out / SUMMARY_NAME).read_text())["label_aps"]
    present = sorted(classes_present(dataset))
    for name in present:
        console.print(f"  {name:22} AP at 1 m {precisions[name][DISTANCE_M]:.3f}")
    mean = sum(precisions[name][DISTANCE_M] for name in present) / len(present)
    console.print(
        f"mean AP at 1 m over the {len(present)} classes present: {mean:.3f} (required: {MIN_AP})"
    )
    return 0 if mean > MIN_AP else 1


if __name__ == "__main__":
    sys.exit(main())
