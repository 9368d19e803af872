"""nuscenes-devkit's own evaluation of columns of boxes: what ours is compared with."""

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
FOREIGN = "a sample of another planet"
RECORD = ("recall", "precision", "confidence")


class Tables:
    """Answers what the devkit's filter asks its tables."""

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
    """The devkit's evaluation of boxes that are filtered already."""

    def __init__(self, truth: EvalBoxes, found: EvalBoxes) -> None:
        self.gt_boxes = truth
        self.pred_boxes = found
        self.cfg = CONFIG
        self.verbose = False


def eval_boxes(boxes: BoxColumns) -> EvalBoxes:
    """The boxes as the devkit holds them, every sample in its place."""
    tokens = boxes.sample_tokens.tolist()
    found = EvalBoxes()
    for token in tokens:
        found.add_boxes(token, [])
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
        found.add_boxes(tokens[boxes.sample[row]], [box])
    return found


def evaluate_by_devkit(
    predictions: BoxColumns, truth: GroundTruth
) -> tuple[DetectionMetrics, DetectionMetricDataList]:
    """Loads, filters and scores; raises what the devkit raises."""
    tables = Tables(truth)
    found, wanted = eval_boxes(predictions), eval_boxes(truth.boxes)
    for token in found.sample_tokens:
        assert len(found[token]) <= CONFIG.max_boxes_per_sample
    found, wanted = add_center_dist(tables, found), add_center_dist(tables, wanted)
    found = filter_eval_boxes(tables, found, CONFIG.class_range)
    wanted = filter_eval_boxes(tables, wanted, CONFIG.class_range)
    with np.errstate(all="ignore"):
        return Evaluation(wanted, found).evaluate()


def differences(
    ours: OurMetrics, metrics: DetectionMetrics, details: DetectionMetricDataList
) -> list[str]:
    """Every figure and curve that is not equal to the last bit (NaN equals NaN)."""
    different = []

    def compare(name: str, mine: float, theirs: float) -> None:
        if not (mine == theirs or (math.isnan(mine) and math.isnan(theirs))):
            different.append(f"{name}: {mine!r} != {theirs!r}")

    compare("NDS", ours.nds, metrics.nd_score)
    compare("mAP", ours.mean_average_precision, metrics.mean_ap)
    for name, value in zip(ERROR_NAMES, ours.errors.values, strict=True):
        compare(name, value, metrics.tp_errors[name])
    assert [found.name for found in ours.classes] == list(CONFIG.class_names)
    for found in ours.classes:
        compare(f"{found.name} AP", found.average_precision, metrics.mean_dist_aps[found.name])
        for name, value in zip(ERROR_NAMES, found.errors.values, strict=True):
            compare(f"{found.name} {name}", value, metrics.get_label_tp(found.name, name))
        for number, distance in enumerate(CONFIG.dist_ths):
            key = f"{found.name} {distance}"
            compare(key, found.precisions[number], metrics.get_label_ap(found.name, distance))
            mine, theirs = found.curves[number], details[(found.name, distance)]
            pairs = [(n, getattr(mine, n)) for n in RECORD]
            pairs += zip(ERROR_NAMES, mine.errors, strict=True)
            for name, values in pairs:
                if not np.array_equal(values, getattr(theirs, name), equal_nan=True):
                    different.append(f"{key} {name}")
    return different
