"""nuscenes-devkit's own evaluation of columns of boxes, for comparison with ours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import add_center_dist, filter_eval_boxes
from nuscenes.eval.detection.data_classes import (
    DetectionBox,
    DetectionMetricDataList,
    DetectionMetrics,
)
from nuscenes.eval.detection.evaluate import DetectionEval

from bevstack.evaluation.detection3d.columns import NO_ATTRIBUTE, NO_SAMPLE, BoxColumns, GroundTruth
from bevstack.evaluation.detection3d.metrics import DetectionMetrics as OurMetrics
from bevstack.evaluation.detection3d.precision_recall import ERROR_NAMES
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES

CONFIG = config_factory("detection_cvpr_2019")
FOREIGN = "a sample of another data set"
RECORD = ("recall", "precision", "confidence")


class Tables:
    """Stand-in for the devkit's tables: answers the queries of its filter."""

    def __init__(self, truth: GroundTruth) -> None:
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        racks: dict[int, list[str]] = {}
        for row, sample in enumerate(truth.racks.sample.tolist()):
            racks.setdefault(sample, []).append(f"rack {row}")
            self._rows["sample_annotation", f"rack {row}"] = {
                "category_name": "static_object.bicycle_rack",
                "translation": truth.racks.translation[row].tolist(),
                "size": truth.racks.size[row].tolist(),
                "rotation": truth.racks.rotation[row].tolist(),
            }
        for row, token in enumerate(truth.boxes.sample_tokens.tolist()):
            self._rows["sample", token] = {"data": {"LIDAR_TOP": token}, "anns": racks.get(row, [])}
            self._rows["sample_data", token] = {"ego_pose_token": token}
            self._rows["ego_pose", token] = {"translation": truth.ego_translation[row].tolist()}

    def get(self, table: str, token: str) -> dict[str, Any]:
        return self._rows[table, token]


class Evaluation(DetectionEval):
    """The devkit's evaluation of boxes that are already filtered."""

    def __init__(self, truth: EvalBoxes, predictions: EvalBoxes) -> None:
        self.gt_boxes = truth
        self.pred_boxes = predictions
        self.cfg = CONFIG
        self.verbose = False


def eval_boxes(boxes: BoxColumns) -> EvalBoxes:
    """Return the boxes as the devkit holds them; every sample keeps its position."""
    tokens = boxes.sample_tokens.tolist()
    devkit_boxes = EvalBoxes()
    for token in tokens:
        devkit_boxes.add_boxes(token, [])
    for row in range(len(boxes)):
        named = boxes.named_sample[row]
        attribute = boxes.attribute[row]
        box = DetectionBox(
            sample_token=FOREIGN if named == NO_SAMPLE else tokens[named],
            translation=tuple(boxes.translation[row].tolist()),
            size=tuple(boxes.size[row].tolist()),
            rotation=tuple(boxes.rotation[row].tolist()),
            velocity=tuple(boxes.velocity[row].tolist()),
            num_pts=int(boxes.num_points[row]),
            detection_name=DETECTION_CLASSES[boxes.label[row]],
            detection_score=float(boxes.score[row]),
            attribute_name="" if attribute == NO_ATTRIBUTE else ATTRIBUTES[attribute],
        )
        devkit_boxes.add_boxes(tokens[boxes.sample[row]], [box])
    return devkit_boxes


def evaluate_by_devkit(
    predictions: BoxColumns, truth: GroundTruth
) -> tuple[DetectionMetrics, DetectionMetricDataList]:
    """Load, filter and score with the devkit.

    Raises:
        Exception: whatever the devkit raises.
    """
    tables = Tables(truth)
    devkit_predictions, devkit_truth = eval_boxes(predictions), eval_boxes(truth.boxes)
    for token in devkit_predictions.sample_tokens:
        assert len(devkit_predictions[token]) <= CONFIG.max_boxes_per_sample
    devkit_predictions, devkit_truth = (
        add_center_dist(tables, devkit_predictions),
        add_center_dist(tables, devkit_truth),
    )
    devkit_predictions = filter_eval_boxes(tables, devkit_predictions, CONFIG.class_range)
    devkit_truth = filter_eval_boxes(tables, devkit_truth, CONFIG.class_range)
    with np.errstate(all="ignore"):
        return Evaluation(devkit_truth, devkit_predictions).evaluate()


def differences(
    ours: OurMetrics, metrics: DetectionMetrics, details: DetectionMetricDataList
) -> list[str]:
    """Return every figure and curve that is not equal to the last bit (NaN equals NaN)."""
    different = []

    def compare(name: str, ours_value: float, devkit_value: float) -> None:
        if not (
            ours_value == devkit_value or (math.isnan(ours_value) and math.isnan(devkit_value))
        ):
            different.append(f"{name}: {ours_value!r} != {devkit_value!r}")

    compare("NDS", ours.nds, metrics.nd_score)
    compare("mAP", ours.mean_average_precision, metrics.mean_ap)
    for name, value in zip(ERROR_NAMES, ours.errors.values, strict=True):
        compare(name, value, metrics.tp_errors[name])
    assert [class_metrics.name for class_metrics in ours.classes] == list(CONFIG.class_names)
    for class_metrics in ours.classes:
        compare(
            f"{class_metrics.name} AP",
            class_metrics.average_precision,
            metrics.mean_dist_aps[class_metrics.name],
        )
        for name, value in zip(ERROR_NAMES, class_metrics.errors.values, strict=True):
            compare(
                f"{class_metrics.name} {name}",
                value,
                metrics.get_label_tp(class_metrics.name, name),
            )
        for number, distance in enumerate(CONFIG.dist_ths):
            key = f"{class_metrics.name} {distance}"
            compare(
                key,
                class_metrics.precisions[number],
                metrics.get_label_ap(class_metrics.name, distance),
            )
            ours_value, devkit_value = (
                class_metrics.curves[number],
                details[(class_metrics.name, distance)],
            )
            pairs = [(n, getattr(ours_value, n)) for n in RECORD]
            pairs += zip(ERROR_NAMES, ours_value.errors, strict=True)
            for name, values in pairs:
                if not np.array_equal(values, getattr(devkit_value, name), equal_nan=True):
                    different.append(f"{key} {name}")
    return different
