from __future__ import annotations

import math

import pytest

from bevstack.evaluation.detection3d.metrics import DetectionMetrics, format_table

ERRORS = {"trans_err": 0.6, "scale_err": 0.25, "orient_err": 0.5, "vel_err": 1.25, "attr_err": 0.1}
SUMMARY = {
    "nd_score": 0.4321,
    "mean_ap": 0.3,
    "tp_errors": ERRORS,
    "mean_dist_aps": {"car": 0.5, "traffic_cone": 0.1},
    "label_tp_errors": {
        "car": ERRORS,
        "traffic_cone": {**ERRORS, "orient_err": math.nan, "vel_err": math.nan},
    },
}


def test_figures_are_those_of_the_summary() -> None:
    metrics = DetectionMetrics.from_summary(SUMMARY)
    assert (metrics.nds, metrics.mean_average_precision) == (0.4321, 0.3)
    assert metrics.errors.values == (0.6, 0.25, 0.5, 1.25, 0.1)
    assert metrics.classes[0].name == "car"
    assert math.isnan(metrics.classes[1].errors.velocity_mps)


def test_a_missing_figure_is_named() -> None:
    incomplete = {name: value for name, value in SUMMARY.items() if name != "nd_score"}
    with pytest.raises(ValueError, match="got no 'nd_score'"):
        DetectionMetrics.from_summary(incomplete)


def test_the_table_is_aligned() -> None:
    metrics = DetectionMetrics.from_summary(SUMMARY)
    assert format_table([("model", metrics), ("bev prior", metrics)]) == (
        "              NDS     mAP    mATE    mASE    mAOE    mAVE    mAAE\n"
        "model      0.4321  0.3000  0.6000  0.2500  0.5000  1.2500  0.1000\n"
        "bev prior  0.4321  0.3000  0.6000  0.2500  0.5000  1.2500  0.1000"
    )


def test_classes_follow_on_request_and_errors_they_do_not_have_are_dashes() -> None:
    table = format_table([("model", DetectionMetrics.from_summary(SUMMARY))], per_class=True)
    assert table.splitlines()[-3:] == [
        "model             AP     ATE     ASE     AOE     AVE     AAE",
        "car           0.5000  0.6000  0.2500  0.5000  1.2500  0.1000",
        "traffic_cone  0.1000  0.6000  0.2500       -       -  0.1000",
    ]
