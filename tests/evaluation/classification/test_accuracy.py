"""Top-1 and top-5 accuracy against sorted lists."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.evaluation.classification.accuracy import AccuracyCounts


def test_accuracy_equals_that_of_sorted_lists() -> None:
    rng = np.random.default_rng(3)
    logits = rng.integers(0, 6, (200, 12)).astype(np.float32)  # many ties
    labels = rng.integers(0, 12, 200)
    counts = AccuracyCounts()
    first = among = 0
    for row, label in zip(logits, labels.tolist(), strict=True):
        counts.add(row, label)
        order = sorted(range(12), key=lambda k, row=row: (-row[k], k))
        first += order[0] == label
        among += label in order[:5]
    assert counts.figures() == {"top1": first / 200, "top5": among / 200}


def test_fewer_than_five_classes_and_wrong_labels() -> None:
    counts = AccuracyCounts()
    with pytest.raises(ValueError, match="at least one picture"):
        counts.figures()
    counts.add(np.array([1.0, 2.0], np.float32), 0)
    assert counts.figures() == {"top1": 0.0, "top5": 1.0}
    with pytest.raises(ValueError, match="label must be below 2; got 2"):
        counts.add(np.zeros(2, np.float32), 2)
