"""The tracking metric of weighted scenes, against the metric of scenes that occur several times."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from bevstack.evaluation.analysis.bootstrap import difference_intervals
from bevstack.evaluation.tracking.track_columns import Frames, TrackColumns
from bevstack.evaluation.tracking.tracking_metrics import evaluate_tracks
from bevstack.evaluation.tracking.tracking_resampler import FIGURES, TrackingResampler
from tests.evaluation.tracking.random_tracks import Case, random_case


def _joined(parts: list[TrackColumns]) -> TrackColumns:
    names = [field.name for field in fields(TrackColumns)]
    return TrackColumns(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def _repeated(case: Case, weights: np.ndarray) -> Case:
    """Return a case with each scene as often as its weight, with its own frames and tracks."""
    scenes, times, boxes = [], [], ([], [])
    first = number = 0
    for scene, weight in enumerate(weights.tolist()):
        inside = np.flatnonzero(case.frames.scene == scene)
        for _ in range(weight):
            scenes += [number] * len(inside)
            times += case.frames.timestamp_us[inside].tolist()
            for own, copies in zip((case.predictions, case.truth), boxes, strict=True):
                part = own[np.isin(own.frame, inside)]
                frame, track = part.frame - inside[0] + first, part.track + 10_000 * number
                copies.append(replace(part, frame=frame, track=track))
            first, number = first + len(inside), number + 1
    frames = Frames(scene=np.array(scenes, dtype=np.int32), timestamp_us=np.array(times))
    return Case(*(_joined(copies) for copies in boxes), frames)


@pytest.mark.parametrize("seed", range(16))
def test_weighted_scenes_have_the_metric_of_scenes_that_occur_several_times(seed: int) -> None:
    case = random_case(seed)
    resampler = TrackingResampler(case.predictions, case.truth, frames=case.frames)
    assert resampler.num_scenes == case.frames.scene[-1] + 1
    drawn = np.random.default_rng(seed).integers(0, 3, (3, resampler.num_scenes))
    drawn[0] = 1
    for weights in drawn:
        if not weights.any():
            continue
        metrics = evaluate_tracks(*_repeated(case, weights))
        wanted = [metrics.figures()[name.lower()] for name in FIGURES]
        wanted += [scores.summary()["amota"] for scores in metrics.classes]
        # Sums of distances in another order differ by some bits.
        np.testing.assert_allclose(resampler.figures(weights), wanted, rtol=0, atol=1e-12)


def test_a_difference_between_equal_tracks_is_zero_in_every_draw() -> None:
    """Compare tracks with themselves, and with tracks that lack the half of their boxes."""
    predictions, truth, frames = random_case(2)
    whole = TrackingResampler(predictions, truth, frames=frames)
    every_second = predictions[np.arange(0, len(predictions), 2)]
    half = TrackingResampler(every_second, truth, frames=frames)
    same = {i.name: i for i in difference_intervals(whole, whole, draws=20)}
    assert all(same[name].low == same[name].high == 0 for name in ("AMOTA", "AMOTP", "recall"))
    fewer = {i.name: i for i in difference_intervals(whole, half, draws=20)}
    assert fewer["recall"].value < 0 and fewer["recall"].low < 0
