"""nuscenes-devkit's metric code without its plots and prints; importing it needs the devkit."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import (
    add_center_dist,
    filter_eval_boxes,
    load_gt_of_sample_tokens,
)
from nuscenes.eval.detection.data_classes import DetectionBox, DetectionConfig
from nuscenes.eval.detection.evaluate import DetectionEval

from bevstack.evaluation.results.box_entries import Results
from bevstack.tables.names import LIDAR_CHANNEL, TABLES


def score(
    results: Results, root: Path, version: str, references: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute summary and details of the metric, as the devkit writes them.

    Args:
        results: the boxes by sample token.
        root: the folder that holds the version's folder.
        version: the folder of the tables.
        references: token of the key frame that gives each sample its ego pose, for samples without
            LIDAR_TOP. The devkit takes nothing but that pose from it.
    """
    config = config_factory("detection_cvpr_2019")
    devkit = _TablesWithoutMaps(root, version)
    for sample in devkit.sample:
        if sample["token"] in references:
            sample["data"].setdefault(LIDAR_CHANNEL, references[sample["token"]])
    with contextlib.redirect_stderr(io.StringIO()):  # hides the devkit's progress bar
        truth = load_gt_of_sample_tokens(devkit, list(results), DetectionBox)
    predictions = EvalBoxes.deserialize(dict(results), DetectionBox)
    metrics, details = _Evaluation(
        _filtered(devkit, truth, config), _filtered(devkit, predictions, config), config=config
    ).evaluate()
    return metrics.serialize(), details.serialize()


class _TablesWithoutMaps(NuScenes):  # type: ignore[misc]  # the devkit has no type information
    """The devkit's tables and indices, without maps and logs, which the metric does not use.

    The devkit's own constructor requires every map image.
    """

    def __init__(self, root: Path, version: str) -> None:
        self.dataroot = str(root)
        self.version = version
        self.verbose = False
        self.log: list[dict[str, Any]] = []
        self.map = [{"token": "", "log_tokens": []}]
        self.table_names = list(TABLES)
        for name in set(TABLES) - {"log", "map", "visibility"}:
            setattr(self, name, self.__load_table__(name))
        self.visibility: list[dict[str, Any]] = []
        self.__make_reverse_index__(verbose=False)


class _Evaluation(DetectionEval):  # type: ignore[misc]  # the devkit has no type information
    """The devkit's evaluation, for boxes that are already loaded and filtered."""

    def __init__(
        self, truth: EvalBoxes, predictions: EvalBoxes, *, config: DetectionConfig
    ) -> None:
        self.gt_boxes = truth
        self.pred_boxes = predictions
        self.cfg = config
        self.verbose = False


def _filtered(devkit: NuScenes, boxes: EvalBoxes, config: DetectionConfig) -> EvalBoxes:
    """Filter boxes with the devkit's own filter."""
    if not boxes.all:
        return boxes  # the devkit's filter needs at least one box
    return filter_eval_boxes(devkit, add_center_dist(devkit, boxes), config.class_range)
