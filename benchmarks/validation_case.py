"""Random data of the size of nuScenes' validation split: tables, ground truth and predictions.

The tables are those of `benchmarks/full_size_tables.py` for the 150 scenes of the split "val".
Each sample has 300 predictions: noisy copies of true boxes, several of each, and clutter.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.full_size_tables import TableFiles, write_fixed, write_scene
from bevstack.evaluation.detection3d.columns import UNKNOWN_POINTS, BoxColumns, GroundTruth
from bevstack.vocabulary import DETECTION_CLASSES

VERSION, SPLIT = "v1.0-trainval", "val"
PREDICTIONS = 300  # per sample
COPIES = 0.4  # fraction of predictions that copy true boxes
NOISE_M, SPREAD_M = 0.7, 26.0


def write_tables(root: Path, scenes: int | None = None) -> None:
    """Write the 13 tables of the first ``scenes`` scenes of "val", or of all scenes."""
    from nuscenes.utils.splits import val

    names = val[:scenes]
    with TableFiles(root / VERSION, seed=0) as files:
        fixed = write_fixed(files)
        for scene, name in enumerate(names):
            write_scene(files, fixed, scene, name, len(val))


def draw_predictions(truth: GroundTruth, seed: int = 0) -> BoxColumns:
    """Return random predictions for every sample; the same for the same seed."""
    draw = np.random.default_rng(seed)
    boxes, samples = truth.boxes, len(truth.boxes.sample_tokens)
    count = PREDICTIONS * samples
    sample = np.repeat(np.arange(samples, dtype=np.int32), PREDICTIONS)
    number = np.bincount(boxes.sample, minlength=samples)
    source = np.searchsorted(boxes.sample, sample) + (draw.random(count) * number[sample]).astype(
        int
    )
    copied = (draw.random(count) < COPIES) & (number[sample] > 0)
    like = boxes[np.minimum(source, len(boxes) - 1)]
    clutter = truth.ego_translation[sample] + draw.normal(0, SPREAD_M, (count, 3)) * (1, 1, 0.02)
    noisy = like.translation + draw.normal(0, NOISE_M, (count, 3))
    half = draw.uniform(-np.pi, np.pi, count) / 2
    turned = np.stack((np.cos(half), 0 * half, 0 * half, np.sin(half)), -1)
    share = np.bincount(boxes.label, minlength=len(DETECTION_CLASSES)) / len(boxes)
    score = np.where(copied, 0.4 + 0.6 * draw.beta(2, 2, count), draw.beta(1, 6, count))
    return replace(
        like,
        sample=sample,
        named_sample=sample,
        translation=np.where(copied[:, None], noisy, clutter),
        size=like.size * draw.uniform(0.8, 1.25, (count, 3)),
        rotation=np.where(copied[:, None], like.rotation, turned),
        velocity=np.nan_to_num(like.velocity) + draw.normal(0, 0.5, (count, 2)),
        label=np.where(copied, like.label, draw.choice(len(share), count, p=share)).astype(np.int8),
        score=score.astype(np.float32).astype(np.float64),  # float32, like a network's scores
        num_points=np.full(count, UNKNOWN_POINTS, dtype=np.int32),
    )
