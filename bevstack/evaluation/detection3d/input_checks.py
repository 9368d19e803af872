"""Checks of predictions before scoring: the devkit's rules, and stricter rules used by default.

The devkit checks little: it accepts infinite sizes, and negative scores as long as every true box
is matched. The stricter rules refuse values that the metric would silently misjudge, and name the
first such box.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.json_files import shorten

DETECTION_SCORE = "detection_score"


def check_predictions(
    boxes: BoxColumns, config: MetricConfig, *, score_field: str = DETECTION_SCORE
) -> None:
    """Check that a detector or a tracker can have predicted every box.

    Args:
        boxes: the predictions.
        config: gives the limit of boxes per sample.
        score_field: name of the scores; those of tracks may be negative.

    Raises:
        ValueError: too many boxes in a sample; a box that names another sample than the one that
            lists it; a value that is not finite (a velocity may be NaN); a size that is not
            positive; a quaternion of zero length; a negative score of a detection. Names the first
        such box.
    """
    signed = score_field != DETECTION_SCORE
    _check_counts(boxes, config)
    for field, requirement in (
        ("translation", "finite"),
        ("size", "positive and finite"),
        ("rotation", "a finite quaternion of non-zero length"),
        ("score", "a finite number" if signed else "a number of at least 0"),
        ("velocity", "finite, or NaN if it is unknown"),
        ("named_sample", "the sample whose list holds the box"),
    ):
        if not _surely_valid(boxes, field):
            valid = _valid_rows(boxes, field, signed=signed)
            _refuse(boxes, field, requirement, valid, score_field)


def check_devkit_rules(
    boxes: BoxColumns, config: MetricConfig, *, score_field: str = DETECTION_SCORE
) -> None:
    """Check that nuscenes-devkit would accept the boxes when it loads and filters them.

    Raises:
        ValueError: too many boxes in a sample, NaN in a field other than velocity, or no box at
            all.
    """
    if not len(boxes):
        raise ValueError("predictions must hold at least one box; got none in any sample")
    _check_counts(boxes, config)
    for field in ("translation", "size", "rotation", "score"):
        values = getattr(boxes, field)
        valid = ~np.isnan(values.reshape(len(boxes), -1)).any(-1)
        _refuse(boxes, field, "numbers, not NaN", valid, score_field)


def _surely_valid(boxes: BoxColumns, field: str) -> bool:
    """Return True if all boxes are valid; a fast check that may return False for valid boxes."""
    values = getattr(boxes, field)
    if field in ("named_sample", "velocity"):
        return bool(_valid_rows(boxes, field).all())
    if not np.isfinite(values).all():
        return False
    if field == "rotation":
        return bool((values[:, 0] != 0).all())  # sufficient; rarely (values != 0).any(-1) differs
    return field == "translation" or bool((values >= 0 if field == "score" else values > 0).all())


def _valid_rows(boxes: BoxColumns, field: str, *, signed: bool = False) -> NDArray[np.bool_]:
    """Return True for each box whose field is valid; with ``signed``, scores may be negative."""
    values = getattr(boxes, field)
    valid: NDArray[np.bool_]
    if field == "named_sample":
        valid = values == boxes.sample
    elif field == "velocity":
        valid = ~np.isinf(values).any(-1)
    elif field == "score":
        valid = ((values >= 0) | signed) & np.isfinite(values)
    elif field == "size":
        valid = np.isfinite(values).all(-1) & (values > 0).all(-1)
    elif field == "rotation":
        valid = np.isfinite(values).all(-1) & (values != 0).any(-1)
    else:
        valid = np.isfinite(values).all(-1)
    return valid


def _check_counts(boxes: BoxColumns, config: MetricConfig) -> None:
    """Check that no sample has too many boxes."""
    counts = np.bincount(boxes.sample, minlength=1)
    if counts.max() > config.max_boxes:
        sample = int(np.argmax(counts > config.max_boxes))
        raise ValueError(
            f"results of sample {shorten(str(boxes.sample_tokens[sample]))} must be a list of at "
            f"most {config.max_boxes} boxes; got {counts[sample]}"
        )


def _refuse(
    boxes: BoxColumns, field: str, requirement: str, valid: NDArray[np.bool_], score_field: str
) -> None:
    """Raise an error that names the first invalid box, if there is one."""
    if valid.all():
        return
    row = int(np.argmin(valid))
    values = getattr(boxes, field)[row].tolist()
    name = {"score": score_field, "named_sample": "sample_token"}.get(field, field)
    if field == "named_sample":
        known = len(boxes.sample_tokens) > values >= 0
        values = shorten(str(boxes.sample_tokens[values])) if known else "an unknown sample"
    raise ValueError(f"{name} of {boxes.describe(row)} must be {requirement}; got {values}")
