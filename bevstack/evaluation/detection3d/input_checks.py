"""What predictions must be to be scored: the devkit's rules, and the safer ones that stand first.

The devkit asks little: it takes infinite sizes, and negative scores as long as every true box is
found. The safer rules refuse what a metric would quietly misjudge, and name the first such box.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.evaluation.detection3d.metric_config import MetricConfig


def check_predictions(boxes: BoxColumns, config: MetricConfig) -> None:
    """Raises unless every box is one that a detector can mean.

    Raises:
        ValueError: too many boxes in a sample; a box that names another sample than the one it
            stands in; a value that is not finite (a velocity may be NaN), a size that is not
            positive, a quaternion without length, or a negative score. Names the first such box.
    """
    _check_counts(boxes, config)
    for field, wanted in (
        ("translation", "finite"),
        ("size", "positive and finite"),
        ("rotation", "a finite quaternion of non-zero length"),
        ("score", "a number of at least 0"),
        ("velocity", "finite, or NaN where it is not known"),
        ("named_sample", "the sample in whose list the box stands"),
    ):
        if not _all_good(boxes, field):
            _refuse(boxes, field, wanted, _is_good(boxes, field))


def check_devkit_rules(boxes: BoxColumns, config: MetricConfig) -> None:
    """Raises where nuscenes-devkit refuses boxes as they are loaded and filtered.

    Raises:
        ValueError: too many boxes in a sample, NaN other than in a velocity, or no box at all.
    """
    if not len(boxes):
        raise ValueError("predictions must hold at least one box; got none in any sample")
    _check_counts(boxes, config)
    for field in ("translation", "size", "rotation", "score"):
        values = getattr(boxes, field)
        good = ~np.isnan(values.reshape(len(boxes), -1)).any(-1)
        _refuse(boxes, field, "numbers, not NaN", good)


def _all_good(boxes: BoxColumns, field: str) -> bool:
    """The same for all boxes at once, some times faster; may be wrong in saying no."""
    values = getattr(boxes, field)
    if field in ("named_sample", "velocity"):
        return bool(_is_good(boxes, field).all())
    if not np.isfinite(values).all():
        return False
    if field == "rotation":
        return bool((values[:, 0] != 0).all())  # or (values != 0).any(-1), rarely
    return field == "translation" or bool((values >= 0 if field == "score" else values > 0).all())


def _is_good(boxes: BoxColumns, field: str) -> NDArray[np.bool_]:
    values = getattr(boxes, field)
    if field == "named_sample":
        return values == boxes.sample
    if field == "velocity":
        return ~np.isinf(values).any(-1)
    if field == "score":
        return (values >= 0) & np.isfinite(values)
    good = np.isfinite(values).all(-1)
    if field == "size":
        return good & (values > 0).all(-1)
    if field == "rotation":
        return good & (values != 0).any(-1)
    return good


def _check_counts(boxes: BoxColumns, config: MetricConfig) -> None:
    counts = np.bincount(boxes.sample, minlength=1)
    if counts.max() > config.max_boxes:
        full = int(np.argmax(counts > config.max_boxes))
        raise ValueError(
            f"results of sample {str(boxes.sample_tokens[full])!r} must be a list of at most "
            f"{config.max_boxes} boxes; got {counts[full]}"
        )


def _refuse(boxes: BoxColumns, field: str, wanted: str, good: NDArray[np.bool_]) -> None:
    if good.all():
        return
    row = int(np.argmin(good))
    values = getattr(boxes, field)[row].tolist()
    name = {"score": "detection_score", "named_sample": "sample_token"}.get(field, field)
    if field == "named_sample":
        known = len(boxes.sample_tokens) > values >= 0
        values = repr(str(boxes.sample_tokens[values])) if known else "one that is not there"
    raise ValueError(f"{name} of {boxes.place(row)} must be {wanted}; got {values}")
