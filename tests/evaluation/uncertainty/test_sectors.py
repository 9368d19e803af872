"""Fit and error of the trust in sectors, on objects that are found by known probabilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bevstack.evaluation.uncertainty.sectors import (
    SectorObservations,
    best_score,
    fit_sectors,
    predicted_recall,
    score_sectors,
)
from bevstack.uncertainty.sectors import BLIND, KINDS, SEEN, SectorModel, sector_places


def observations(count: int, seed: int, kinds: tuple[int, ...] = (0, 1, 2, 3, 4)):
    """Return objects of sectors in two parts, found by a known model, and that model."""
    draw = np.random.default_rng(seed)
    slope = np.array([-1.2, -1.2, -1.2, -1.2, 0.0])
    model = SectorModel(
        offset=np.array([0.9, -0.2, -1.5, -2.0, -4.0]), slope=slope, min_score=0.4, memory_s=1.0
    )
    places = sector_places().shape[2]
    parts = draw.choice(kinds, (count, 2))
    is_second = np.arange(places) >= draw.integers(0, places + 1, count)[:, None]
    found = SectorObservations(
        kind=np.where(is_second, parts[:, 1:], parts[:, :1]).astype(np.int8),
        bearing=draw.integers(0, 8, count),
        ring=draw.integers(0, 3, count),
        score=np.zeros(count),
        label=np.full(count, "none"),
        sample=np.arange(count) // 30,
        box_score=np.zeros(0),
        box_matched=np.zeros(0, np.bool_),
    )
    recall = predicted_recall(model, found)
    hit = draw.random(count) < recall
    score = np.where(hit, draw.uniform(0.4, 1.0, count), draw.uniform(0.0, 0.399, count))
    score[: count // 20] = np.where(hit[: count // 20], score[: count // 20], -1.0)
    boxes = np.concatenate((score[score >= 0], draw.uniform(0.0, 0.399, 2 * count)))
    matched = np.arange(len(boxes)) < (score >= 0).sum()
    matched &= boxes >= 0.4
    return replace(found, score=score, box_score=boxes, box_matched=matched), model


def test_a_fit_recovers_the_model_and_its_error_is_small_on_other_objects() -> None:
    found, model = observations(12_000, 0)
    fitted = fit_sectors(found, {"split": "s"}, memory_s=1.0)
    assert fitted.min_score == pytest.approx(0.4, abs=0.01)
    np.testing.assert_allclose(fitted.offset[:4], model.offset[:4], atol=0.25)
    np.testing.assert_allclose(fitted.slope, model.slope, atol=0.2)
    assert fitted.fitted_on == {"split": "s"} and fitted.slope[BLIND] == 0
    other, _ = observations(12_000, 1)
    trust = predicted_recall(fitted, other)
    scores = score_sectors(trust, other.score >= fitted.min_score)
    assert scores.objects == 12_000 and scores.expected_calibration_error < 0.02
    assert score_sectors(np.full(12_000, trust.mean()), other.score >= 0.4).brier > scores.brier


def test_the_error_is_the_mean_gap_of_the_bins() -> None:
    trust = np.array([0.05, 0.05, 0.65, 0.65, 0.65, 0.65])
    found = np.array([True, False, True, True, False, False])
    wanted = (2 * abs(0.05 - 0.5) + 4 * abs(0.65 - 0.5)) / 6
    scores = score_sectors(trust, found)
    assert scores.expected_calibration_error == pytest.approx(wanted)
    assert scores.brier == pytest.approx(np.mean((trust - found) ** 2))
    assert (scores.objects, scores.recall) == (6, 0.5)


def test_without_objects_there_is_no_error() -> None:
    empty = score_sectors(np.zeros(0), np.zeros(0, np.bool_))
    assert empty.objects == 0 and np.isnan(empty.expected_calibration_error)
    found, model = observations(200, 0)
    none = found.select(np.zeros(200, np.bool_))
    assert len(none) == 0 and predicted_recall(model, none).shape == (0,)


def test_kinds_that_no_object_has_stay_near_the_best_one() -> None:
    found, _ = observations(3000, 2, kinds=(SEEN,))
    fitted = fit_sectors(found, {}, memory_s=0.0)
    assert np.abs(fitted.offset - fitted.offset[SEEN]).max() < 0.05
    assert len(fitted.offset) == len(KINDS)


def test_the_best_score_has_the_greatest_f1() -> None:
    draw = np.random.default_rng(5)
    score, matched = draw.random(80).round(3), draw.random(80) < 0.4
    best, wanted = -1.0, 0.0
    for limit in score:
        hits, boxes = (matched & (score >= limit)).sum(), (score >= limit).sum()
        f1 = 2 * hits / (boxes + 60)
        if f1 > best:
            best, wanted = f1, limit
    assert best_score(score, matched, 60) == pytest.approx(wanted)


def test_a_fit_without_boxes_or_with_few_objects_is_refused() -> None:
    found, _ = observations(300, 0)
    none = replace(found, box_score=np.zeros(0), box_matched=np.zeros(0, np.bool_))
    with pytest.raises(ValueError, match="boxes must find an object; got none of 300 by 0"):
        fit_sectors(none, {}, memory_s=0.0)
    few = found.select(np.arange(300) < 99)
    with pytest.raises(ValueError, match="objects must be 100 or more; got 99"):
        fit_sectors(few, {}, memory_s=0.0)


def test_runs_are_joined_in_order() -> None:
    one, _ = observations(150, 0)
    two, _ = observations(130, 1)
    both = SectorObservations.concatenate([one, two])
    assert len(both) == 280 and np.array_equal(both.score[150:], two.score)
    assert len(both.box_score) == len(one.box_score) + len(two.box_score)
