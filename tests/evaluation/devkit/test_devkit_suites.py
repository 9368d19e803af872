"""nuscenes-devkit's own tests of its metric, run on our functions in place of the devkit's."""

from __future__ import annotations

import unittest
from types import ModuleType

import numpy as np
import pytest

from bevstack.evaluation.detection3d import box_errors
from bevstack.evaluation.detection3d.columns import NO_ATTRIBUTE, BoxColumns
from bevstack.evaluation.detection3d.precision_recall import (
    ERROR_NAMES,
    Curve,
    Selection,
    class_curves,
    match_class,
    pair_errors,
)
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES

pytest.importorskip("nuscenes")
pytest.importorskip("parameterized")
test_algo = pytest.importorskip("nuscenes.eval.detection.tests.test_algo")
test_utils = pytest.importorskip("nuscenes.eval.detection.tests.test_utils")


def columns_from_devkit(boxes, tokens) -> BoxColumns:
    """Return the devkit's boxes as columns."""
    numbered_boxes = [(number, box) for number, token in enumerate(tokens) for box in boxes[token]]
    count = len(numbered_boxes)

    def column(name: str, *width: int) -> np.ndarray:
        values = [getattr(box, name) for _, box in numbered_boxes]
        return np.array(values, dtype=np.float64).reshape(count, *width)

    sample = np.array([number for number, _ in numbered_boxes], dtype=np.int32)
    names = [b.attribute_name for _, b in numbered_boxes]
    return BoxColumns(
        sample_tokens=np.array(tokens),
        sample=sample,
        named_sample=sample,
        translation=column("translation", 3),
        size=column("size", 3),
        rotation=column("rotation", 4),
        velocity=column("velocity", 2),
        label=np.array(
            [DETECTION_CLASSES.index(b.detection_name) for _, b in numbered_boxes], np.int8
        ),
        attribute=np.array([ATTRIBUTES.index(n) if n else NO_ATTRIBUTE for n in names], np.int8),
        score=column("detection_score"),
        num_points=column("num_pts").astype(np.int32),
    )


def single_column(box) -> BoxColumns:
    return columns_from_devkit({"": [box]}, [""])


def our_accumulate(truth, predictions, class_name, dist_fcn, dist_th, verbose=False):
    from nuscenes.eval.detection.data_classes import DetectionMetricData

    tokens = sorted({*truth.sample_tokens, *predictions.sample_tokens})
    boxes = [columns_from_devkit(boxes, tokens) for boxes in (predictions, truth)]
    label = DETECTION_CLASSES.index(class_name)
    selections = [Selection(b, np.arange(len(b))).by_label()[label] for b in boxes]
    matches = None
    if len(selections[1].rows):
        matches = match_class(*selections, (dist_th,), half_turn=class_name == "barrier")
    (curve,) = class_curves(matches, 1)
    errors = dict(zip(ERROR_NAMES, curve.errors, strict=True))
    return DetectionMetricData(curve.recall, curve.precision, curve.confidence, **errors)


def our_curve(data) -> Curve:
    return Curve(
        recall=data.recall,
        precision=data.precision,
        confidence=data.confidence,
        errors=np.stack([getattr(data, name)[::-1] for name in ERROR_NAMES])[:, ::-1],
    )


def our_calc_ap(data, min_recall, min_precision):
    try:
        return our_curve(data).average_precision(min_recall, min_precision)
    except ValueError as error:
        raise AssertionError from error


def our_calc_tp(data, min_recall, metric_name):
    return our_curve(data).mean_errors(min_recall)[ERROR_NAMES.index(metric_name)]


def our_error(name: str, period: float = 2 * np.pi):
    def error(truth, prediction, period: float = period) -> float:
        predicted_columns, true_columns = single_column(prediction), single_column(truth)
        difference = predicted_columns.translation[:, :2] - true_columns.translation[:, :2]
        try:
            selections = [
                Selection(boxes, np.arange(1)) for boxes in (predicted_columns, true_columns)
            ]
            errors = pair_errors(*selections, box_errors.norms(difference), period)
        except ValueError as cause:
            raise AssertionError from cause
        return float(errors[ERROR_NAMES.index(name), 0])

    return error


def our_attr_acc(truth, prediction) -> float:
    error = our_error("attr_err")(with_size(truth), with_size(prediction))
    return np.nan if np.isnan(error) else 1 - error


def with_size(box):
    box.size = (1.0, 1.0, 1.0)
    return box


def our_error_of_sized_boxes(name: str):
    """Return one of our errors, for boxes that the devkit's tests give no size."""
    return lambda truth, prediction, **options: our_error(name)(
        with_size(truth), with_size(prediction), **options
    )


OURS = {
    test_algo: {"accumulate": our_accumulate, "calc_ap": our_calc_ap, "calc_tp": our_calc_tp},
    test_utils: {
        "attr_acc": our_attr_acc,
        "scale_iou": lambda truth, prediction: 1 - our_error("scale_err")(truth, prediction),
        "yaw_diff": our_error_of_sized_boxes("orient_err"),
        "angle_diff": lambda x, y, period: box_errors.angle_differences(
            np.array([x]), np.array([y]), period
        )[0],
        "center_distance": our_error_of_sized_boxes("trans_err"),
        "velocity_l2": our_error_of_sized_boxes("vel_err"),
        "cummean": lambda values: box_errors.cumulative_means(values.astype(float)),
    },
}


@pytest.mark.parametrize(
    ("module", "count"), [(test_algo, 10), (test_utils, 7)], ids=["test_algo", "test_utils"]
)
def test_the_devkits_tests_pass_on_our_functions(
    module: ModuleType, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = set()

    def counted(name: str, function):
        def call(*args, **options):
            called.add(name)
            return function(*args, **options)

        return call

    for name, function in OURS[module].items():
        assert hasattr(module, name)
        monkeypatch.setattr(module, name, counted(name, function))
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(module).run(result)
    assert not [text for _, text in (*result.failures, *result.errors)]
    assert result.testsRun == count and not result.skipped
    assert called == set(OURS[module])
