"""Small random sets of boxes that cover everything that decides the last bit of the metric.

Centers lie on a lattice, so distances tie and equal the limits. Scores take few values, both zeros
among them, so they tie. Some boxes share one center. Headings and sizes are of all kinds. Some
velocities and attributes are unknown, some classes have no boxes, and some boxes name another
sample than the one that lists them.
"""

from __future__ import annotations

import numpy as np

from bevstack.evaluation.detection3d.columns import (
    NO_ATTRIBUTE,
    NO_SAMPLE,
    UNKNOWN_POINTS,
    BicycleRacks,
    BoxColumns,
    GroundTruth,
)
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES

LATTICES_M = (0.0, 0.1, 0.25, 0.5, 1.0)  # 0: no lattice
SCORES = (
    (0.0, -0.0, 0.25, 0.5, 0.5000000000000001, 1.0),
    (0.3,),
    tuple(np.linspace(0.05, 0.95, 40)),
    (),  # any score
)


def random_case(seed: int) -> tuple[BoxColumns, GroundTruth]:
    """Draw predictions and truth; equal seeds give equal cases."""
    draw = np.random.default_rng(seed)
    tokens = np.array([f"sample {number}" for number in range(draw.integers(1, 5))])
    labels = draw.choice(len(DETECTION_CLASSES), draw.integers(1, 5), replace=False)
    scene = Scene(draw, tokens, labels)
    truth = GroundTruth(
        boxes=scene.boxes(int(draw.integers(1, 60)), predicted=False),
        ego_translation=np.round(draw.normal(0, 3, (len(tokens), 3)), draw.integers(0, 4)),
        racks=scene.racks(int(draw.integers(0, 4))),
    )
    predictions = scene.boxes(int(draw.integers(0, 150)), predicted=True)
    if draw.random() < 0.7 and len(predictions):  # some of them near the truth
        rows = draw.integers(0, len(truth.boxes), len(predictions))
        near = draw.random(len(predictions)) < 0.7
        predictions.translation[near] = truth.boxes.translation[rows[near]]
        predictions.translation[near, :2] += scene.offsets(int(near.sum()))
        for name in ("label", "named_sample"):
            getattr(predictions, name)[near] = getattr(truth.boxes, name)[rows[near]]
    return predictions, truth


class Scene:
    """Source of random boxes of some classes on one lattice."""

    def __init__(self, draw: np.random.Generator, tokens: np.ndarray, *labels: np.ndarray) -> None:
        self.draw = draw
        self.tokens = tokens
        self.labels = labels[0]
        self.lattice_m = draw.choice(LATTICES_M)
        self.scores = SCORES[draw.integers(len(SCORES))]
        self.reach_m = draw.choice([3.0, 10.0, 60.0])

    def boxes(self, count: int, *, predicted: bool) -> BoxColumns:
        draw = self.draw
        sample = np.sort(draw.integers(0, len(self.tokens), count)).astype(np.int32)
        named = sample.copy()
        if predicted and draw.random() < 0.2:
            foreign = draw.random(count) < 0.2
            named[foreign] = draw.integers(NO_SAMPLE, len(self.tokens), foreign.sum())
        return BoxColumns(
            sample_tokens=self.tokens,
            sample=sample,
            named_sample=named,
            translation=self.centers(count),
            size=self.sizes(count, flat=predicted and draw.random() < 0.1),
            rotation=self.rotations(count),
            velocity=self.velocities(count, infinite=predicted and draw.random() < 0.1),
            label=draw.choice(self.labels, count).astype(np.int8),
            attribute=draw.integers(NO_ATTRIBUTE, len(ATTRIBUTES), count).astype(np.int8),
            score=self.confidences(count) if predicted else np.full(count, -1.0),
            num_points=np.full(count, UNKNOWN_POINTS, dtype=np.int32)
            if predicted and draw.random() < 0.9
            else draw.integers(0, 6, count).astype(np.int32),
        )

    def racks(self, count: int) -> BicycleRacks:
        draw = self.draw
        size = draw.choice([2.0, 4.0, 1.641, 14.465], (count, 3))
        return BicycleRacks(
            sample=draw.integers(0, len(self.tokens), count).astype(np.int32),
            translation=self.centers(count),
            size=size,
            rotation=self.rotations(count),
        )

    def centers(self, count: int) -> np.ndarray:
        centers = self.draw.uniform(-self.reach_m, self.reach_m, (count, 3))
        centers[:, 2] = self.draw.choice([0.0, 1.0], count)
        return self.snap_to_lattice(centers)

    def offsets(self, count: int) -> np.ndarray:
        return self.snap_to_lattice(
            self.draw.normal(0, self.draw.choice([0.3, 1.0, 3.0]), (count, 2))
        )

    def snap_to_lattice(self, points: np.ndarray) -> np.ndarray:
        return points if not self.lattice_m else np.round(points / self.lattice_m) * self.lattice_m

    def sizes(self, count: int, *, flat: bool) -> np.ndarray:
        size = self.draw.uniform(0.2, 12.0, (count, 3))
        if self.draw.random() < 0.5:
            size = np.ceil(size)
        if flat:
            size[self.draw.random(count) < 0.05, self.draw.integers(3)] = 0.0
        return size

    def rotations(self, count: int) -> np.ndarray:
        draw = self.draw
        kind = draw.integers(4)
        if kind == 0:  # any rotation, any length
            return draw.normal(0, 1, (count, 4))
        half = draw.uniform(-np.pi, np.pi, count)
        if kind == 1:
            half = np.round(half / (np.pi / 8)) * (np.pi / 8)
        upright = np.stack((np.cos(half), 0 * half, -0.0 * half, np.sin(half)), -1)
        if kind == 2:
            upright[draw.random(count) < 0.2] *= -1
            upright[draw.random(count) < 0.1] = 0.0
        return upright

    def velocities(self, count: int, *, infinite: bool) -> np.ndarray:
        velocity = self.draw.normal(0, 3, (count, 2))
        share = self.draw.choice([0.0, 0.3, 1.0])
        velocity[self.draw.random(count) < share] = np.nan
        velocity[self.draw.random(count) < 0.1, 0] = np.nan
        if infinite:
            velocity[self.draw.random(count) < 0.1] = np.inf
        return velocity

    def confidences(self, count: int) -> np.ndarray:
        score = self.draw.choice(self.scores, count) if self.scores else self.draw.random(count)
        if self.draw.random() < 0.1:
            score[self.draw.random(count) < 0.1] = self.draw.choice([-0.5, np.inf])
        return score.astype(np.float64)
