"""Random cases with the devkit's answers, for machines without the devkit's tracking part.

pip install --target FOLDER --no-deps motmetrics==1.4.0 pandas==2.3.3 pytz tzdata xmltodict
PYTHONPATH=FOLDER python -m tests.evaluation.tracking.frozen_tracks  # makes frozen.npz again
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from bevstack.evaluation.tracking.class_scores import LEVEL_FIGURES
from bevstack.evaluation.tracking.track_columns import Frames, TrackColumns
from bevstack.evaluation.tracking.tracking_metrics import FIGURES, evaluate_tracks
from tests.evaluation.tracking.random_tracks import Case, random_case

FILE = Path(__file__).with_name("frozen.npz")
CASES = 16
PARTS = {"predictions": TrackColumns, "truth": TrackColumns, "frames": Frames}
# The devkit's distances err by 1e-5 m at coordinates of 1,000 m; sums and quotients by a few bits.
TOLERANCE_M, TOLERANCE = 2e-5, 1e-9


def own_answers(case: Case) -> np.ndarray:
    """Return the figures of every class and level, and the summary of every class."""
    metrics = evaluate_tracks(*case)
    rows = [np.array(list(scores.figures.values())).ravel() for scores in metrics.classes]
    summaries = [list(scores.summary().values()) for scores in metrics.classes]
    return np.concatenate([*rows, np.array(summaries).ravel()])


def expect_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare answers: distances to 2e-5 m, the remaining figures to 1e-9."""
    names = [*(np.repeat(LEVEL_FIGURES, 40).tolist() * 7), *(FIGURES * 7)]
    is_distance = np.isin(names, ("motp", "amotp"))
    for rows, tolerance in ((is_distance, TOLERANCE_M), (~is_distance, TOLERANCE)):
        np.testing.assert_allclose(found[rows], expected[rows], rtol=0, atol=tolerance)


def make() -> None:
    """Run the devkit on the cases and store both."""
    from tests.evaluation.tracking.devkit_tracks import devkit_answers

    cases = [random_case(seed) for seed in range(CASES)]
    arrays = {"answers": np.stack([devkit_answers(case) for case in cases])}
    for part, kind in PARTS.items():
        records = [getattr(case, part) for case in cases]
        arrays[f"{part}.rows"] = np.array([len(record) for record in records])
        for field in fields(kind):
            columns = [getattr(record, field.name) for record in records]
            arrays[f"{part}.{field.name}"] = np.concatenate(columns)
    np.savez_compressed(FILE, **arrays)


def stored() -> list[tuple[Case, np.ndarray]]:
    """Return the stored cases and answers."""
    arrays = dict(np.load(FILE))
    return [(_case(number, arrays), arrays["answers"][number]) for number in range(CASES)]


def _case(number: int, arrays: dict[str, np.ndarray]) -> Case:
    records = {}
    for part, kind in PARTS.items():
        counts = arrays[f"{part}.rows"]
        rows = slice(counts[:number].sum(), counts[: number + 1].sum())
        records[part] = kind(**{f.name: arrays[f"{part}.{f.name}"][rows] for f in fields(kind)})
    return Case(**records)


if __name__ == "__main__":
    make()
