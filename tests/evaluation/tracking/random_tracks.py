"""Random scenes with objects, tracks that switch, fragment and miss, and false tracks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bevstack.evaluation.tracking.track_columns import Frames, TrackColumns
from bevstack.evaluation.tracking.tracking_config import TRACKING_CLASSES
from bevstack.vocabulary import DETECTION_CLASSES

LABELS = [DETECTION_CLASSES.index(name) for name in TRACKING_CLASSES[:3]]


class Case(NamedTuple):
    predictions: TrackColumns
    truth: TrackColumns
    frames: Frames


class Row(NamedTuple):
    frame: int
    track: int
    label: int
    x: float
    y: float
    score: float


def columns(rows: list[Row], rng: np.random.Generator) -> TrackColumns:
    """Return rows in the order of their frames; within a frame in random order."""
    shuffled = [rows[k] for k in rng.permutation(len(rows))]
    ordered = sorted(shuffled, key=lambda row: row.frame)
    return TrackColumns(
        frame=np.array([row.frame for row in ordered], dtype=np.int64),
        track=np.array([row.track for row in ordered], dtype=np.int64),
        label=np.array([row.label for row in ordered], dtype=np.int8),
        center=np.array([(row.x, row.y) for row in ordered], dtype=np.float64).reshape(-1, 2),
        score=np.array([row.score for row in ordered], dtype=np.float64),
    )


def random_case(seed: int) -> Case:
    """Make a case; every second one lies on a grid of 0.5 m with few scores, which causes ties."""
    rng = np.random.default_rng(seed)
    on_grid = seed % 2 == 1
    counts = rng.integers(1, 9, size=rng.integers(1, 4))
    frames = Frames(
        scene=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        timestamp_us=np.concatenate(
            [1_500_000_000_000_000 + np.cumsum(rng.integers(300_000, 700_000, n)) for n in counts]
        ).astype(np.int64),
    )
    truth: list[Row] = []
    predicted: list[Row] = []
    first = 0
    for scene, count in enumerate(counts.tolist()):
        for _ in range(rng.integers(0, 6)):
            number = len({row.track for row in truth})
            label = int(rng.choice(LABELS))
            place = rng.uniform(0, 5, 2) + 1000
            step = rng.normal(0, 0.4, 2)
            track = 100 * (scene + 1) + int(rng.integers(0, 8))
            for k in range(int(rng.integers(0, count)), count):
                place = place + step
                if rng.random() < 0.15:
                    track = 100 * (scene + 1) + int(rng.integers(0, 8))
                x, y = _rounded(place, on_grid)
                if rng.random() < 0.8:
                    truth.append(Row(first + k, number, label, x, y, -1.0))
                if rng.random() < 0.75:
                    x, y = _rounded(place + rng.normal(0, 0.9, 2), on_grid)
                    own = label if rng.random() < 0.95 else int(rng.choice(LABELS))
                    score = rng.integers(-2, 3) / 2 if on_grid else rng.random()
                    predicted.append(Row(first + k, track, own, x, y, float(score)))
        first += count
    unique = {(row.frame, row.track): row for row in predicted}
    return Case(columns(list(unique.values()), rng), columns(truth, rng), frames)


def _rounded(place: np.ndarray, on_grid: bool) -> tuple[float, float]:
    x, y = np.round(place * 2) / 2 if on_grid else place
    return float(x), float(y)
