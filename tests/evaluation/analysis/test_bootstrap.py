from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bevstack.evaluation.analysis.bootstrap import Resampler, difference_intervals, intervals
from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import evaluate
from tests.evaluation.detection3d.random_cases import random_case
from tests.evaluation.detection3d.test_evaluator import at, columns, truth


def case(seed: int) -> tuple[BoxColumns, GroundTruth]:
    """Return a random case without boxes that the evaluator refuses or that name another sample."""
    predictions, wanted = random_case(seed)
    good = (predictions.named_sample == predictions.sample) & (predictions.score >= 0)
    good &= np.isfinite(predictions.score) & (predictions.size > 0).all(-1)
    good &= ~np.isinf(predictions.velocity).any(-1) & predictions.rotation.any(-1)
    return predictions[good], wanted


def keep_samples(boxes: BoxColumns, kept: np.ndarray) -> BoxColumns:
    return boxes[kept[boxes.sample]]


def evaluate_figures(predictions: BoxColumns, wanted: GroundTruth) -> np.ndarray:
    metrics = evaluate(predictions, wanted)
    precisions = [c.average_precision for c in metrics.classes]
    means = metrics.mean_average_precision, *metrics.errors.values
    return np.array([metrics.nds, *means, *precisions])


@pytest.mark.parametrize("seed", range(30))
def test_weights_of_zero_and_one_choose_scenes(seed: int) -> None:
    predictions, wanted = case(seed)
    samples = len(wanted.boxes.sample_tokens)
    scene = np.arange(samples, dtype=np.int32)
    resampler = Resampler(predictions, wanted, scene=scene)
    # sums of weights round differently from sums of ones
    close = {"rtol": 1e-12, "atol": 1e-12, "equal_nan": True}
    whole = resampler.figures(np.ones(samples, dtype=np.int64))
    assert np.allclose(whole, evaluate_figures(predictions, wanted), **close)
    for left_out in range(samples):
        kept = np.arange(samples) != left_out
        remaining = dataclasses.replace(wanted, boxes=keep_samples(wanted.boxes, kept))
        if not len(remaining.boxes):
            continue
        figures = resampler.figures(kept.astype(np.int64))
        assert np.allclose(
            figures, evaluate_figures(keep_samples(predictions, kept), remaining), **close
        )


def test_a_scene_drawn_twice_counts_twice() -> None:
    wanted = truth(at(0.0), at(0.0, sample=1))
    predictions = columns(at(0.0, score=0.9), at(5.0, score=0.8, sample=1))
    resampler = Resampler(predictions, wanted, scene=np.array([0, 1], dtype=np.int32))
    car = resampler.names.index("AP car")
    # two of three true boxes match, then comes a false positive: precision 1 up to recall 2/3
    twice = resampler.figures(np.array([2, 1]))[car]
    assert twice == pytest.approx(np.count_nonzero(np.arange(11, 101) <= 66) / 90)
    assert resampler.figures(np.array([0, 1]))[car] == 0.0
    assert resampler.figures(np.array([5, 0]))[car] == pytest.approx(1.0)


def scenes_with_one_car(
    count: int, noise_m: float = 1.0
) -> tuple[BoxColumns, GroundTruth, np.ndarray]:
    """Return one true car and one prediction of it in each of many scenes."""
    draw = np.random.default_rng(0)
    tokens = tuple(f"sample {n}" for n in range(count))
    cars = [at(float(draw.uniform(0, 40)), sample=n) for n in range(count)]
    noise = draw.normal(0.0, noise_m, count)
    predictions = [
        {**box, "translation": (box["translation"][0] + error, 0.0, 0.0), "score": 0.5}
        for box, error in zip(cars, noise, strict=True)
    ]
    wanted = dataclasses.replace(
        truth(at(0.0)),
        boxes=columns(*[{**box, "num_points": 3} for box in cars], tokens=tokens),
        ego_translation=np.zeros((count, 3)),
    )
    return columns(*predictions, tokens=tokens), wanted, np.arange(count, dtype=np.int32)


def test_intervals_hold_the_figure_and_shrink_with_more_scenes() -> None:
    widths = []
    for count in (20, 320):
        predictions, wanted, scene = scenes_with_one_car(count)
        all_intervals = intervals(Resampler(predictions, wanted, scene=scene), draws=200)
        precision = next(i for i in all_intervals if i.name == "mAP")
        assert precision.low < precision.value < precision.high
        widths.append(precision.high - precision.low)
    assert widths[1] < 0.5 * widths[0]


def test_the_same_seed_gives_the_same_intervals() -> None:
    predictions, wanted, scene = scenes_with_one_car(20)
    resampler = Resampler(predictions, wanted, scene=scene)
    assert repr(intervals(resampler, draws=20)) == repr(intervals(resampler, draws=20))
    assert repr(intervals(resampler, draws=20)) != repr(intervals(resampler, draws=20, seed=1))


def test_a_shared_draw_separates_models_that_separate_intervals_do_not() -> None:
    predictions, wanted, scene = scenes_with_one_car(60)
    worse, _, _ = scenes_with_one_car(60, 1.25)
    first, second = (Resampler(boxes, wanted, scene=scene) for boxes in (predictions, worse))
    alone = [next(i for i in intervals(r, draws=200) if i.name == "mAP") for r in (first, second)]
    assert alone[1].high > alone[0].low  # they overlap
    difference = difference_intervals(first, second, draws=200)
    precision = next(i for i in difference if i.name == "mAP")
    assert precision.value == pytest.approx(alone[1].value - alone[0].value)
    assert precision.excludes_zero and precision.high < 0
    assert precision.num_scenes == 60 and precision.is_beyond_chance
    assert not dataclasses.replace(precision, num_scenes=9).is_beyond_chance
    same = difference_intervals(first, first, draws=20)
    assert not any(i.excludes_zero for i in same)


def test_submissions_of_other_scenes_are_not_compared() -> None:
    first, second = (
        Resampler(b, w, scene=s) for b, w, s in (scenes_with_one_car(5), scenes_with_one_car(6))
    )
    with pytest.raises(ValueError, match="must cover the same scenes; got 5 and 6"):
        difference_intervals(first, second)


class MedianDelay:
    """The upper median of one delay a scene; infinite if too many are."""

    names = ("delay",)

    def __init__(self, delays_s: list[float]) -> None:
        self.delays_s = np.array(delays_s)
        self.num_scenes = len(delays_s)

    def figures(self, weights: np.ndarray) -> np.ndarray:
        ordered = np.sort(np.repeat(self.delays_s, weights))
        return ordered[len(ordered) // 2 :][:1]


def test_infinite_figures_have_bounds_and_equal_ones_no_difference() -> None:
    missed = MedianDelay([0.25, 0.5, 0.75, np.inf, 1.0])
    (found,) = intervals(missed, draws=200)
    assert (found.value, found.low, found.high) == (0.75, 0.25, np.inf)
    (same,) = difference_intervals(missed, MedianDelay(list(missed.delays_s)), draws=200)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    (worse,) = difference_intervals(MedianDelay([0.25] * 5), missed, draws=200)
    assert (worse.value, worse.low, worse.high) == (0.5, 0.0, np.inf)
    (all_missed,) = intervals(MedianDelay([np.inf] * 3), draws=20)
    assert (all_missed.value, all_missed.low, all_missed.high) == (np.inf, np.inf, np.inf)
