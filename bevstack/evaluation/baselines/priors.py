"""What a detector must beat: boxes that never look at the images.

`random_boxes` knows how frequent the classes are; `bev_prior` knows besides where around the
vehicle they use to be, how large and how fast. Both need the tables alone and give ordinary
results, to be written and scored like any other.
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
from bevstack.types import Annotations, Boxes3D, Detections
from bevstack.vocabulary import DETECTION_CLASSES

CELLS_M = (1.0, 2.0, 4.0)
MAX_PRIOR_BOXES = 300

Entries = dict[str, list[dict[str, object]]]  # sample token -> boxes, as in a results file


@dataclass(frozen=True)
class ScoredPrior:
    """The best prior over several sizes of cells."""

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
    """The same boxes for every sample of ``test``: where boxes were in ``train``.

    The ego frame is divided into square cells; each cell that held boxes of a class becomes one
    box of it at their mean place, with their mean size, heading and velocity, scored by how many
    they were. The best ``max_boxes`` are kept.

    Args:
        tables: the version's tables.
        train: a split, or names of scenes, to learn from.
        test: a split, or names of scenes, to give boxes for.
        cell_m: side of a cell in metres.
        max_boxes: boxes a sample, at most 500.

    Raises:
        ValueError: a split or scene that is not there, or no true box in ``train``.
    """
    seen = boxes_seen(tables, train)
    key = np.stack(
        (seen.labels.numpy(), *np.floor(seen.boxes.center[:, :2].numpy() / cell_m).T), -1
    )
    _, group, count = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)  # numpy 2.0 gave it a second axis
    boxes = mean_boxes(seen.boxes, group, len(count))
    labels = np.zeros(len(count), dtype=np.int64)
    labels[group] = seen.labels.numpy()
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
    """The prior of the cell size, of 1, 2 and 4 m, whose NDS on ``test`` is highest.

    Chosen on the test scenes themselves, which favours the prior: what beats it beats all three.

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
    """Boxes anywhere in their class's scoring range, of classes as frequent as in ``train``.

    Size and height above the ground are the class's means; heading and score are random, and
    nothing moves. The draw depends on the seed and the sample's place in its table alone.

    Raises:
        ValueError: a split or scene that is not there, or no true box in ``train``.
    """
    seen = boxes_seen(tables, train)
    labels = seen.labels.numpy()
    means = mean_boxes(seen.boxes, labels, len(DETECTION_CLASSES))
    frequency = np.bincount(labels, minlength=len(DETECTION_CLASSES)) / len(labels)
    ranges = np.array([DETECTION_RANGE_M[name] for name in DETECTION_CLASSES])
    results = {}
    for token, pose in _poses(tables, test):
        generator = np.random.default_rng((seed, tables.sample_row(token)))
        chosen = generator.choice(len(frequency), boxes_per_sample, p=frequency)
        place = _within_disc(generator, ranges[chosen])
        center = np.column_stack((place, means.center[chosen, 2].numpy()))
        boxes = Boxes3D(
            center=torch.from_numpy(center),
            size=means.size[chosen],
            yaw=torch.from_numpy(generator.uniform(-np.pi, np.pi, boxes_per_sample)),
            velocity=torch.zeros(boxes_per_sample, 2, dtype=torch.float64),
        )
        scores = np.sort(generator.uniform(size=boxes_per_sample))[::-1].copy()
        found = Detections(boxes, torch.from_numpy(scores), torch.from_numpy(chosen))
        results[token] = _entries(found, pose, token)
    return results


def boxes_seen(tables: Tables, split: str | Sequence[str]) -> Annotations:
    """Annotations of all samples in their ego frames: those that scoring would count."""
    ranges = torch.tensor([DETECTION_RANGE_M[name] for name in DETECTION_CLASSES])
    seen = []
    for token, world_from_ego in _poses(tables, split):
        found = world_annotations(tables, tables.sample_row(token))
        found = found.transformed(invert_se3(world_from_ego))
        near = found.boxes.center[:, :2].norm(dim=-1) < ranges[found.labels]
        seen.append(found[near & (found.num_points > 0)])
    together = Annotations(
        Boxes3D.concatenate([found.boxes for found in seen]),
        torch.cat([found.labels for found in seen]),
        torch.cat([found.num_points for found in seen]),
    )
    if not len(together):
        raise ValueError(
            f"the scenes to learn from must have true boxes within scoring range; got none in "
            f"{split if isinstance(split, str) else ', '.join(split)} of {tables.version}"
        )
    return together


def _poses(tables: Tables, split: str | Sequence[str]) -> list[tuple[str, torch.Tensor]]:
    """Token and world_from_ego (4, 4) of every sample of a split, scene by scene."""
    scenes = tables.scene_rows(scenes_of_split(tables, split))
    rows = np.concatenate([tables.samples_of_scene(int(scene)) for scene in scenes])
    poses = world_from_ego_at(tables, tables.reference_keyframes(rows))
    return [
        (str(token), pose) for token, pose in zip(tables.samples.token[rows], poses, strict=True)
    ]


def mean_boxes(
    boxes: Boxes3D,  # M boxes
    group: NDArray[np.int64],  # (M,)
    count: int,
) -> Boxes3D:  # count boxes
    """Mean place, size, heading (of the unit vectors) and known velocity (0 if none) by group."""

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        known = np.isfinite(values)
        sums, counts = np.zeros((count, values.shape[1])), np.zeros((count, values.shape[1]))
        np.add.at(sums, group, np.where(known, values, 0.0))
        np.add.at(counts, group, known)
        return sums / np.maximum(counts, 1)

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
    """Points spread evenly over discs about the origin."""
    distance = radius_m * np.sqrt(generator.uniform(size=len(radius_m)))
    angle = generator.uniform(-np.pi, np.pi, len(radius_m))
    return np.stack((distance * np.cos(angle), distance * np.sin(angle)), -1)


def _entries(
    detections: Detections,
    world_from_ego: torch.Tensor,  # (4, 4)
    token: str,
) -> list[dict[str, object]]:
    return result_entries(result_boxes(detections, world_from_ego), token)
