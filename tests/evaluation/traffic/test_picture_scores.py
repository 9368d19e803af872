"""Average precision in single pictures, against a loop written from the definition."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from bevstack.evaluation.traffic.picture_scores import score_pictures, write_picture_metrics
from bevstack.types.labelled_images import LabelledImage
from bevstack.types.traffic import TrafficElement
from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES

RED, GREEN = 1, 2
NAMES = TRAFFIC_ELEMENT_ATTRIBUTES


def light(attribute, box, convention="lamp"):
    return TrafficElement(
        token="t", category=1, attribute=attribute, box_px=box, box_convention=convention
    )


def picture(path, *lights, scores=None):
    return LabelledImage(path=path, size=(100, 100), elements=lights, scores=scores)


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def looped_precision(truth, predicted, attribute):
    """Return the average precision at 11 recalls: each prediction takes its best free box."""
    rows = [
        (score, number, element)
        for number, image in enumerate(predicted)
        for element, score in zip(image.elements, image.scores, strict=True)
        if element.attribute == attribute and element.box_convention == "lamp"
    ]
    rows.sort(key=lambda row: -row[0])
    taken, hits = set(), []
    count = sum(e.attribute == attribute for image in truth for e in image.elements)
    for _, number, element in rows:
        own = [
            (iou(element.box_px, e.box_px), place)
            for place, e in enumerate(truth[number].elements)
            if e.attribute == attribute
        ]
        best, place = max(own, default=(0.0, -1))
        hit = best > 0.25 and (number, place) not in taken
        taken |= {(number, place)} if hit else set()
        hits.append(hit)
    found = np.cumsum(hits)
    levels = []
    for level in np.arange(11) / 10:
        at = [found[k] / (k + 1) for k in range(len(hits)) if found[k] / count >= level - 1e-6]
        levels.append(max(at, default=0.0))
    return float(np.mean(levels))


def random_pictures():
    rng = np.random.default_rng(4)
    truth, predicted = [], []
    for number in range(12):
        corners = rng.uniform(0, 70, (3, 2))
        true = [light(RED + row % 2, (x, y, x + 20, y + 20)) for row, (x, y) in enumerate(corners)]
        moved = corners + rng.normal(0, 7, (3, 2))
        found = [light(RED + row % 2, (x, y, x + 20, y + 20)) for row, (x, y) in enumerate(moved)]
        found.append(light(RED, (1, 1, 9, 9)))
        found.append(light(RED, true[0].box_px, "housing"))  # another convention never counts
        truth.append(picture(f"{number}.png", *true))
        predicted.append(picture(f"{number}.png", *found, scores=tuple(rng.uniform(0, 1, 5))))
    return truth, predicted


def test_average_precision_equals_a_loop_and_the_order_of_files_does_not_matter():
    truth, predicted = random_pictures()
    groups = [f"g{number // 2}" for number in range(12)]
    rule = [dataclasses.replace(image, elements=(), scores=()) for image in truth]
    scores = score_pictures(truth, predicted[::-1], rule, groups, draws=50)
    assert [score.attribute for score in scores] == [NAMES[RED], NAMES[GREEN], "mean"]
    expected = [looped_precision(truth, predicted, attribute) for attribute in (RED, GREEN)]
    found = [score.model.value for score in scores]
    assert found == pytest.approx([*expected, np.mean(expected)], abs=1e-6)  # float32 sums
    assert 0.2 < expected[0] < 0.95
    for score in scores:
        assert score.rule.value == 0 and score.num_groups == 6
        assert score.model.low <= score.model.value <= score.model.high
        assert score.difference.value == pytest.approx(score.model.value)
    assert [score.num_truth for score in scores] == [24, 12, 36]


def test_intervals_draw_groups_not_pictures():
    truth, predicted = random_pictures()
    single = score_pictures(truth, predicted, predicted, ["one"] * 12, draws=20)
    for score in single:  # a single group has nothing to draw from
        assert score.model.low == score.model.high == score.model.value
        assert score.difference.value == 0


def test_metrics_are_written_as_plain_json(tmp_path):
    truth, predicted = random_pictures()
    scores = score_pictures(truth, predicted, predicted, ["a", "b"] * 6, draws=5)
    path = write_picture_metrics(tmp_path / "out", scores, "kr")
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["pictures"] == "kr"
    assert content["attributes"][0]["model"]["value"] == scores[0].model.value


def test_pictures_without_predictions_or_truth_are_refused():
    truth, predicted = random_pictures()
    with pytest.raises(ValueError, match=r"must hold every picture; got none of 11.png and 0 more"):
        score_pictures(truth, predicted[:-1], predicted, ["a"] * 12, draws=1)
    empty = [dataclasses.replace(image, elements=()) for image in truth]
    with pytest.raises(ValueError, match="must have a true element"):
        score_pictures(empty, predicted, predicted, ["a"] * 12, draws=1)
