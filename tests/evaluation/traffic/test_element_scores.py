"""Scores by size, distance and colour against loops over boxes."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from bevstack.evaluation.traffic.element_columns import (
    ElementColumns,
    predicted_columns,
    true_columns,
)
from bevstack.evaluation.traffic.element_scores import (
    DISTANCES,
    HEIGHTS,
    MatchedElements,
    Range,
    color_accuracy,
    macro,
    score_elements,
)
from bevstack.types.traffic import Lamp, TrafficElement
from tests.evaluation.traffic import traffic_samples
from tests.evaluation.traffic.openlane_loops import eleven_points

SIX = Range(quantity="height_px", low=6.0)


def columns(rng: np.random.Generator, count: int, *, predicted: bool) -> ElementColumns:
    """Return boxes on a coarse grid in five images, so that many overlap or are equal."""
    corner = rng.integers(0, 6, (count, 2)) * 4.0
    size = rng.integers(1, 7, (count, 2)) * 2.0
    category = rng.integers(1, 3, count)
    return ElementColumns(
        image=np.sort(rng.integers(0, 5, count)),
        boxes_px=np.concatenate((corner, corner + size), axis=1),
        category=category,
        attribute=np.where(category == 1, rng.integers(0, 3, count), 5),
        color=np.where(category == 1, rng.integers(0, 4, count), -1),
        lamp_box=rng.random(count) < 0.3,
        distance_m=rng.uniform(0, 100, count),
        speed_limit_mps=np.where(
            (category == 2) & (rng.random(count) < 0.7),
            rng.integers(2, 5, count) * 10 / 3.6,
            np.nan,
        ),
        visibility=np.ones(count) if predicted else rng.choice([0.1, 0.3, 0.9], count),
        scores=rng.choice([0.1, 0.4, 0.4, 0.8], count) if predicted else np.ones(count),
    )


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    width, height = (min(first[i + 2], second[i + 2]) - max(first[i], second[i]) for i in (0, 1))
    shared = max(width, 0) * max(height, 0)
    areas = ((b[2] - b[0]) * (b[3] - b[1]) for b in (first, second))
    return shared / (sum(areas) - shared)


def taken(truth: ElementColumns, guess: ElementColumns, label: str) -> dict[int, int]:
    """Return the true row that each predicted row takes."""
    labels = getattr(truth, label), getattr(guess, label)
    found: dict[int, int] = {}
    for row in sorted(range(len(guess)), key=lambda row: -guess.scores[row]):
        near = [
            t
            for t in range(len(truth))
            if truth.image[t] == guess.image[row] and labels[0][t] == labels[1][row]
        ]
        overlaps = [overlap(truth.boxes_px[t], guess.boxes_px[row]) for t in near]
        if near and max(overlaps) > 0.25:
            best = near[overlaps.index(max(overlaps))]
            if best not in found.values():
                found[row] = best
    return found


def loop(
    truth: ElementColumns,
    guess: ElementColumns,
    attribute: int,
    bounds: Range | None,
    minimum: bool,
) -> tuple[Fraction, int, int]:
    def inside(elements: ElementColumns, row: int) -> bool:
        if bounds is None:
            return True
        return bool(bounds.low <= getattr(elements, bounds.quantity)[row] < bounds.high)

    found = taken(truth, guess, "attribute")
    visible = [v >= 0.3 for v in truth.visibility]
    counted = [visible[t] and inside(truth, t) for t in range(len(truth))]
    neutral = [not c for c in counted] if minimum else [not v for v in visible]
    ranked = []
    for row in range(len(guess)):
        if guess.attribute[row] != attribute:
            continue
        if row in found:
            if counted[found[row]]:
                ranked.append((guess.scores[row], True))
            continue
        spared = any(
            neutral[t]
            and truth.image[t] == guess.image[row]
            and overlap(truth.boxes_px[t], guess.boxes_px[row]) > 0.25
            for t in range(len(truth))
        )
        if inside(guess, row) and not spared:
            ranked.append((guess.scores[row], False))
    num_truth = sum(counted[t] and truth.attribute[t] == attribute for t in range(len(truth)))
    return eleven_points(ranked, num_truth), num_truth, len(ranked)


@pytest.mark.parametrize("seed", range(4))
def test_precisions_and_colours_equal_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = (columns(rng, n, predicted=p) for n, p in ((35, False), (50, True)))
    matched = MatchedElements(truth, guess)
    for bounds, minimum in ((None, False), (SIX, True), (HEIGHTS[2], False), (DISTANCES[3], False)):
        for attribute in (0, 1, 2, 5):
            found = matched.precision(attribute, bounds, is_minimum=minimum)
            value, num_truth, num_predictions = loop(truth, guess, attribute, bounds, minimum)
            assert (found.num_truth, found.num_predictions) == (num_truth, num_predictions)
            if num_truth:
                assert found.value == pytest.approx(float(value), abs=1e-6)  # float32
            else:
                assert np.isnan(found.value)
    expected = np.zeros((5, 5), int)
    for row, t in taken(truth, guess, "category").items():
        if truth.category[t] == 1 and truth.height_px[t] >= 6 and truth.visibility[t] >= 0.3:
            expected[truth.color[t], guess.color[row]] += 1
    assert np.array_equal(matched.color_confusion(), expected)
    assert color_accuracy(expected) == pytest.approx(np.trace(expected) / expected.sum())


def test_weights_of_images_equal_copies_of_images() -> None:
    rng = np.random.default_rng(9)
    truth, guess = (columns(rng, n, predicted=p) for n, p in ((35, False), (50, True)))
    guess = dataclasses.replace(guess, scores=rng.permutation(50) / 50)  # copies stay together
    weights = np.array([2, 0, 1, 3, 1])

    def copied(elements: ElementColumns) -> ElementColumns:
        parts = [
            (np.flatnonzero(elements.image == image), copy)
            for image in range(5)
            for copy in range(weights[image])
        ]
        rows = np.concatenate([rows for rows, _ in parts])
        picked = elements.select(rows)
        image = np.concatenate([elements.image[rows] + 5 * copy for rows, copy in parts])
        return ElementColumns(**(vars(picked) | {"image": image}))

    matched, copies = MatchedElements(truth, guess), MatchedElements(copied(truth), copied(guess))
    for attribute in (0, 1, 2, 5):
        found = matched.precision(attribute, SIX, is_minimum=True, weights=weights)
        expected = copies.precision(attribute, SIX, is_minimum=True)
        assert (found.num_truth, found.num_predictions) == (
            expected.num_truth,
            expected.num_predictions,
        )
        assert found.value == pytest.approx(expected.value, abs=1e-6)  # float32
    assert np.array_equal(matched.color_confusion(weights=weights), copies.color_confusion())


def test_all_scores_have_their_counts() -> None:
    rng = np.random.default_rng(1)
    truth = columns(rng, 40, predicted=False)
    scores = score_elements(MatchedElements(truth, truth))
    assert sum(p.num_truth for p in scores.attributes) == (truth.visibility >= 0.3).sum()
    assert scores.det_t == 1.0 and macro(list(scores.attributes)) == 1.0
    by_height = [sum(p.num_truth for p in precisions) for _, precisions in scores.by_height]
    assert sum(by_height) == (truth.visibility >= 0.3).sum()
    assert [bounds.name for bounds, _ in scores.by_height] == [
        "0-4", "4-6", "6-8", "8-10", "10-16", "16-24", ">=24",
    ]  # fmt: skip
    assert [name for name, _ in scores.by_convention] == ["housing", "lamp"]
    assert np.array_equal(scores.confusion, np.diag(np.diag(scores.confusion)))


def test_detections_of_frames_become_columns_in_the_order_of_their_images() -> None:
    rng = np.random.default_rng(2)
    frames = [traffic_samples.detections(rng, count, 2) for count in (4, 0, 3)]
    images = [np.array([10, 3]), np.array([5, 4]), np.array([2, 11])]
    found = predicted_columns(frames, images)
    assert found.image.tolist() == sorted(found.image.tolist()) and len(found) == 7
    row = int(np.flatnonzero(found.image == images[0][frames[0].camera[0]])[0])
    assert found.boxes_px[row].tolist() == frames[0].boxes_px[0].tolist()
    attributes, confidences = frames[0].openlane_attributes()
    assert (found.attribute[row], found.scores[row]) == (attributes[0], confidences[0])
    assert found.distance_m[row] == pytest.approx(float(np.linalg.norm(frames[0].position_m[0])))
    assert len(predicted_columns([], [])) == 0


def test_numbers_of_speed_limits_are_counted_given_a_match() -> None:
    rng = np.random.default_rng(8)
    truth, guess = columns(rng, 90, predicted=False), columns(rng, 90, predicted=True)
    right = total = 0
    for row, t in taken(truth, guess, "category").items():
        height = truth.boxes_px[t, 3] - truth.boxes_px[t, 1]
        if np.isnan(truth.speed_limit_mps[t]) or height < 6 or truth.visibility[t] < 0.3:
            continue
        total += 1
        right += bool(abs(guess.speed_limit_mps[row] - truth.speed_limit_mps[t]) * 3.6 < 0.5)
    found = MatchedElements(truth, guess).read_numbers(6.0)
    assert found == (right, total) and 0 < right < total
    assert found.accuracy == right / total
    assert np.isnan(MatchedElements(truth, guess).read_numbers(100.0).accuracy)


def test_a_lit_lamp_that_the_image_shows_dark_is_neutral_whatever_is_predicted():
    light = TrafficElement(
        token="a", category=1, attribute=1, box_px=(10, 10, 18, 30), lamps=(Lamp("red"),)
    )
    here, place = np.zeros(1, np.int64), np.zeros((1, 3))
    bright = true_columns([light], here, place)
    dark = true_columns([dataclasses.replace(light, is_dark=True)], here, place)
    for color in (0, 1):
        guess = dataclasses.replace(bright, color=np.array([color]), attribute=np.array([color]))
        scores = score_elements(MatchedElements(dark, guess))
        assert scores.confusion.sum() == 0
        assert sum(p.num_truth + p.num_predictions for p in scores.lights) == 0
    assert score_elements(MatchedElements(bright, bright)).confusion.sum() == 1


def test_lamps_that_the_image_does_not_show_have_the_attribute_unknown_and_no_colour():
    light = TrafficElement(
        token="a",
        category=1,
        attribute=0,
        box_px=(10, 10, 18, 30),
        lamps=(Lamp("red"),),
        lamp_pixels=0.5,
    )
    here, place = np.zeros(1, np.int64), np.zeros((1, 3))
    hidden = true_columns([light], here, place)
    assert hidden.color.tolist() == [-1] and hidden.visibility.tolist() == [1.0]
    red = dataclasses.replace(hidden, color=np.array([1]), attribute=np.array([1]))
    scores = score_elements(MatchedElements(hidden, red))
    assert scores.confusion.sum() == 0
    assert [p.num_predictions for p in scores.lights] == [1, 0, 0]  # a red that is not there
    shown = true_columns([dataclasses.replace(light, lamp_pixels=1.0)], here, place)
    assert shown.color.tolist() == [1]
