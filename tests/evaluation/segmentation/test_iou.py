"""Mean IoU against a loop over pixels written from the formula."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.evaluation.segmentation.iou import LabelCounts


def loop(pairs, classes):
    """Return IoU by class from sets of (picture, row, column)."""
    iou = []
    for label in range(classes):
        true, found = set(), set()
        for number, (predicted, wanted) in enumerate(pairs):
            for row in range(wanted.shape[0]):
                for column in range(wanted.shape[1]):
                    if wanted[row, column] == 255:
                        continue
                    if wanted[row, column] == label:
                        true.add((number, row, column))
                    if predicted[row, column] == label:
                        found.add((number, row, column))
        iou.append(len(true & found) / len(true | found) if true | found else np.nan)
    return np.array(iou)


def pictures():
    rng = np.random.default_rng(3)
    pairs = []
    for height, width in ((7, 11), (5, 3), (1, 1)):
        wanted = rng.integers(0, 4, (height, width)).astype(np.uint8)
        predicted = np.where(rng.random(wanted.shape) < 0.6, wanted, 6).astype(np.uint8)
        predicted[0] = 1
        wanted[rng.random(wanted.shape) < 0.2] = 255
        pairs.append((predicted, wanted))
    return pairs


def test_scores_over_pictures_of_several_sizes_equal_the_loop():
    counts = LabelCounts(9)
    for predicted, wanted in pictures():
        counts.add(predicted, wanted)
    scores, wanted = counts.scores(), loop(pictures(), 9)
    np.testing.assert_array_equal(scores.iou, wanted)
    assert np.isnan(wanted[8]) and wanted[6] == 0  # absent; predicted alone
    assert scores.mean_iou == pytest.approx(np.nanmean(wanted))
    right = sum(int(((p == w) & (w != 255)).sum()) for p, w in pictures())
    labelled = sum(int((w != 255).sum()) for _, w in pictures())
    assert scores.pixel_accuracy == pytest.approx(right / labelled)


def test_means_are_over_all_pixels_and_not_over_pictures():
    counts = LabelCounts(2)
    counts.add(np.zeros((1, 1), np.uint8), np.ones((1, 1), np.uint8))
    counts.add(np.ones((3, 3), np.uint8), np.ones((3, 3), np.uint8))
    assert counts.scores().iou[1] == 0.9


def test_predictions_without_a_class_miss_and_add_to_no_other():
    counts = LabelCounts(2)
    counts.add(np.array([[1, 149]], np.uint8), np.array([[1, 1]], np.uint8))
    assert counts.scores().iou[1] == 0.5 and np.isnan(counts.scores().iou[0])


def test_unsuitable_labels_are_refused():
    counts = LabelCounts(3)
    with pytest.raises(ValueError, match=r"the size \(2, 3\); got \(3, 2\)"):
        counts.add(np.zeros((3, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match="must be below 3 or 255; got 7"):
        counts.add(np.zeros((1, 1), np.uint8), np.full((1, 1), 7, np.uint8))
    counts.add(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    with pytest.raises(ValueError, match="must hold a labelled pixel"):
        counts.scores()
    with pytest.raises(ValueError, match="num_classes must be 1 to 255"):
        LabelCounts(0)
