"""Baselines that do not use the images; a detector must score higher than both.

`random_boxes` uses only the frequency of each class. `bev_prior` also uses the distribution of each
class's positions around the ego vehicle, and its mean sizes, headings and velocities. Both read
only the tables and return ordinary results, which are written and scored like those of a detector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.metrics import DetectionMetrics
from bevstack.evaluation.results.result_boxes import result_boxes, result_entries
from bevstack.evaluation.scoring import load, score
from bevstack.geometry import invert_se3
from bevstack.tables.calibration import world_annotations, world_from_ego_at
from bevstack.tables.names import DETECTION_RANGE_M
from bevstack.tables.reader import Tables
from bevstack.tables.splits import scenes_of_split
from bevstack.tables.time_checks import check_time_unit
from bevstack.types import Annotations, Boxes3D, Detections
from bevstack.vocabulary import DETECTION_CLASSES

CELLS_M = (1.0, 2.0, 4.0)
MAX_PRIOR_BOXES = 300

Entries = dict[str, list[dict[str, object]]]  # sample token -> boxes, as in a results file


@dataclass(frozen=True)
class ScoredPrior:
    """The results and metrics of a prior, and the size of its cells."""

    results: Mapping[str, Sequence[Mapping[str, object]]]
    metrics: DetectionMetrics
    cell_m: float


def bev_prior(
    tables: Tables,
    train: str | Sequence[str],
    test: str | Sequence[str],
    *,
    cell_m: float = 2.0,
    max_boxes: int = MAX_PRIOR_BOXES,
) -> Entries:
    """Predict the same boxes for every sample of ``test``: the mean boxes of ``train``.

    The ego frame is divided into square cells. Each cell that contains boxes of a class in
    ``train`` gives one box of that class, with their mean position, size, heading and velocity. Its
    score is proportional to their number. The ``max_boxes`` boxes of highest score are kept.

    Args:
        tables: the version's tables.
        train: split, or names of scenes, to compute the boxes from.
        test: split, or names of scenes, to predict boxes for.
        cell_m: side of a cell in metres.
        max_boxes: boxes per sample, at most 500.

    Raises:
        ValueError: a split or scene does not exist, or ``train`` has no true box.
    """
    annotations = scored_annotations(tables, train)
    key = np.stack(
        (annotations.labels.numpy(), *np.floor(annotations.boxes.center[:, :2].numpy() / cell_m).T),
        -1,
    )
    _, group, count = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)  # numpy 2.0 returns it with a second axis
    boxes = mean_boxes(annotations.boxes, group, len(count))
    labels = np.zeros(len(count), dtype=np.int64)
    labels[group] = annotations.labels.numpy()
    best = np.argsort(-count, kind="stable")[:max_boxes].copy()
    prior = Detections(
        boxes[torch.from_numpy(best)],
        torch.from_numpy(count[best] / count.max()),
        torch.from_numpy(labels[best]),
    )
    return {token: _entries(prior, pose, token) for token, pose in _poses(tables, test)}


def best_bev_prior(
    tables: Tables,
    train: str | Sequence[str],
    test: str | Sequence[str],
) -> ScoredPrior:
    """Return the prior with the best NDS on ``test`` among the cell sizes 1, 2 and 4 m.

    The choice on the test scenes favours the prior: a detector that beats it beats all three.

    Raises:
        ValueError: see ``bev_prior``.
    """
    candidates = []
    for cell_m in CELLS_M:
        results = bev_prior(tables, train, test, cell_m=cell_m)
        metrics = score(load(results, tables, test)).metrics
        candidates.append(ScoredPrior(results, metrics, cell_m))
    return max(candidates, key=lambda candidate: candidate.metrics.nds)


def random_boxes(
    tables: Tables,
    train: str | Sequence[str],
    test: str | Sequence[str],
    *,
    seed: int = 0,
    boxes_per_sample: int = MAX_PRIOR_BOXES,
) -> Entries:
    """Draw boxes uniformly in their class's scoring range, with the class frequencies of ``train``.

    Size and height above the ground are the means of the class. Heading and score are random; the
    velocity is 0. The boxes of a sample depend only on the seed and on its row in the sample table.

    Raises:
        ValueError: a split or scene does not exist, or ``train`` has no true box.
    """
    annotations = scored_annotations(tables, train)
    labels = annotations.labels.numpy()
    means = mean_boxes(annotations.boxes, labels, len(DETECTION_CLASSES))
    frequency = np.bincount(labels, minlength=len(DETECTION_CLASSES)) / len(labels)
    ranges = np.array([DETECTION_RANGE_M[name] for name in DETECTION_CLASSES])
    results = {}
    for token, pose in _poses(tables, test):
        generator = np.random.default_rng((seed, tables.sample_row(token)))
        classes = generator.choice(len(frequency), boxes_per_sample, p=frequency)
        position = _within_disc(generator, ranges[classes])
        center = np.column_stack((position, means.center[classes, 2].numpy()))
        boxes = Boxes3D(
            center=torch.from_numpy(center),
            size=means.size[classes],
            yaw=torch.from_numpy(generator.uniform(-np.pi, np.pi, boxes_per_sample)),
            velocity=torch.zeros(boxes_per_sample, 2, dtype=torch.float64),
        )
        scores = np.sort(generator.uniform(size=boxes_per_sample))[::-1].copy()
        detections = Detections(boxes, torch.from_numpy(scores), torch.from_numpy(classes))
        results[token] = _entries(detections, pose, token)
    return results


def scored_annotations(tables: Tables, split: str | Sequence[str]) -> Annotations:
    """Return the annotations that the metric counts, of all samples of a split, in ego frames.

    Raises:
        ValueError: a split or scene does not exist, or the split has no true box in scoring range.
    """
    ranges = torch.tensor([DETECTION_RANGE_M[name] for name in DETECTION_CLASSES])
    parts = []
    for token, world_from_ego in _poses(tables, split):
        annotations = world_annotations(tables, tables.sample_row(token))
        annotations = annotations.transformed(invert_se3(world_from_ego))
        in_range = annotations.boxes.center[:, :2].norm(dim=-1) < ranges[annotations.labels]
        parts.append(annotations[in_range & (annotations.num_points != 0)])
    joined = Annotations(
        Boxes3D.concatenate([annotations.boxes for annotations in parts]),
        torch.cat([annotations.labels for annotations in parts]),
        torch.cat([annotations.num_points for annotations in parts]),
    )
    if not len(joined):
        raise ValueError(
            f"the training scenes must have true boxes within scoring range; got none in "
            f"{split if isinstance(split, str) else ', '.join(split)} of {tables.version}"
        )
    return joined


def _poses(tables: Tables, split: str | Sequence[str]) -> list[tuple[str, torch.Tensor]]:
    """Return the token and world_from_ego (4, 4) of every sample of a split, scene by scene."""
    scenes = tables.scene_rows(scenes_of_split(tables, split))
    rows = np.concatenate([tables.samples_of_scene(int(scene)) for scene in scenes])
    check_time_unit(tables, rows)
    poses = world_from_ego_at(tables, tables.reference_keyframes(rows))
    return [
        (str(token), pose) for token, pose in zip(tables.samples.token[rows], poses, strict=True)
    ]


def mean_boxes(
    boxes: Boxes3D,  # M boxes
    group: NDArray[np.int64],  # (M,) from 0 to count - 1
    count: int,  # number of groups
) -> Boxes3D:  # count boxes
    """Return the mean box of each group.

    The mean heading is that of the mean unit vector. Unknown (NaN) velocities are left out; the
    mean is 0 if all are unknown.
    """

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        known = np.isfinite(values)
        sums, counts = np.zeros((count, values.shape[1])), np.zeros((count, values.shape[1]))
        np.add.at(sums, group, np.where(known, values, 0.0))
        np.add.at(counts, group, known)
        means: NDArray[np.float64] = sums / np.maximum(counts, 1)
        return means

    heading = mean(np.stack((np.cos(boxes.yaw.numpy()), np.sin(boxes.yaw.numpy())), -1))
    return Boxes3D(
        center=torch.from_numpy(mean(boxes.center.numpy())),
        size=torch.from_numpy(mean(boxes.size.numpy())),
        yaw=torch.from_numpy(np.arctan2(heading[:, 1], heading[:, 0])),
        velocity=torch.from_numpy(mean(boxes.velocity.numpy())),
    )


def _within_disc(
    generator: np.random.Generator,
    radius_m: NDArray[np.float64],  # (M,)
) -> NDArray[np.float64]:  # (M, 2)
    """Draw points uniformly from discs about the origin."""
    distance = radius_m * np.sqrt(generator.uniform(size=len(radius_m)))
    angle = generator.uniform(-np.pi, np.pi, len(radius_m))
    return np.stack((distance * np.cos(angle), distance * np.sin(angle)), -1)


def _entries(
    detections: Detections,
    world_from_ego: torch.Tensor,  # (4, 4)
    token: str,
) -> list[dict[str, object]]:
    """Return the results entries of one sample from its detections in the ego frame."""
    return result_entries(result_boxes(detections, world_from_ego), token)
