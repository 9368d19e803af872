"""Notes on predictions that the metric cannot count, although their file is valid."""

from __future__ import annotations

import numpy as np

from bevstack.evaluation.detection3d.columns import BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.evaluator import scored_rows
from bevstack.evaluation.detection3d.filtering import ego_distances
from bevstack.evaluation.detection3d.metric_config import MetricConfig


def note_on_range(
    boxes: BoxColumns, truth: GroundTruth, config: MetricConfig | None = None
) -> str | None:
    """Return a note if there are predicted boxes and none is within the range of its class.

    Args:
        boxes: the predictions, of the truth's samples.
        truth: true boxes and the ego vehicle's positions.
        config: the ranges; None: those of nuScenes.
    """
    if not len(boxes) or scored_rows(boxes, truth, config or MetricConfig()).near:
        return None
    nearest_m = float(ego_distances(boxes, truth.ego_translation).min())
    note = (
        f"none of the {len(boxes)} predicted boxes lies within the range of its class around the "
        f"ego vehicle of its sample (the nearest is {nearest_m:.0f} m away), so the scores are 0"
    )
    from_origin_m = float(np.hypot(boxes.translation[:, 0], boxes.translation[:, 1]).min())
    if from_origin_m < nearest_m / 2:
        return f"{note}: they look like boxes in the ego frame; results are in the world frame"
    return f"{note}: check that they are of these samples, in the world frame and in metres"
