"""AMOTA and its parts against plain loops and against nuscenes-devkit."""

from __future__ import annotations

import numpy as np
import pytest

from bevstack.evaluation.tracking.class_scores import LEVEL_FIGURES
from bevstack.evaluation.tracking.interpolation import with_filled_holes, with_mean_scores
from bevstack.evaluation.tracking.track_columns import Frames, TrackColumns
from bevstack.evaluation.tracking.track_truth import label_of
from bevstack.evaluation.tracking.tracking_config import TRACKING_CLASSES, TrackingMetricConfig
from bevstack.evaluation.tracking.tracking_metrics import FIGURES, evaluate_tracks
from tests.evaluation.tracking import tracking_loops
from tests.evaluation.tracking.frozen_tracks import expect_equal, own_answers, stored
from tests.evaluation.tracking.random_tracks import random_case


def _expect_loops(seed: int) -> None:
    predictions, truth, frames = random_case(seed)
    true_scenes, times = tracking_loops.scenes_of(truth, frames)
    scenes, _ = tracking_loops.scenes_of(predictions, frames)
    tracking_loops.average_scores(scenes)
    for some in (true_scenes, scenes):
        tracking_loops.fill_holes(some, times)
    metrics = evaluate_tracks(predictions, truth, frames)
    for scores in metrics.classes[:3]:
        rows = tracking_loops.class_rows(true_scenes, scenes, label_of(scores.name))
        for figure in LEVEL_FIGURES:
            expected = [row[figure] for row in rows]
            tolerance = 2e-5 if figure == "motp" else 1e-12  # the devkit's distances err by 1e-5 m
            np.testing.assert_allclose(
                scores.figures[figure], expected, rtol=0, atol=tolerance, err_msg=figure
            )
        motar = np.array([row["motar"] for row in rows])
        if not np.isnan(motar).all():
            assert scores.amota == pytest.approx(np.nan_to_num(motar).mean(), abs=1e-12)


def test_figures_equal_loops_from_the_definition() -> None:
    for seed in range(24):
        _expect_loops(seed)


@pytest.mark.slow
def test_figures_of_many_cases_equal_loops() -> None:
    for seed in range(100, 1100):
        _expect_loops(seed)


def test_figures_equal_stored_answers_of_the_devkit() -> None:
    for case, answers in stored():
        expect_equal(own_answers(case), answers)


@pytest.mark.slow
def test_figures_equal_the_devkit_on_new_cases() -> None:
    pytest.importorskip("motmetrics")
    pytest.importorskip("nuscenes")
    from tests.evaluation.tracking.devkit_tracks import devkit_answers

    for seed in range(2000, 2040):
        case = random_case(seed)
        expect_equal(own_answers(case), devkit_answers(case))


def columns(rows: list[tuple[int, int, float, float]], label: str = "car") -> TrackColumns:
    """Return boxes from (frame, track, x, score); y is 0."""
    return TrackColumns(
        frame=np.array([row[0] for row in rows], dtype=np.int64),
        track=np.array([row[1] for row in rows], dtype=np.int64),
        label=np.full(len(rows), label_of(label), dtype=np.int8),
        center=np.array([(row[2], 0.0) for row in rows]).reshape(-1, 2),
        score=np.array([row[3] for row in rows], dtype=np.float64),
    )


def frames_at(*times_s: float) -> Frames:
    times = (np.array(times_s) * 1e6).astype(np.int64)
    return Frames(scene=np.zeros(len(times), dtype=np.int32), timestamp_us=times)


def test_added_box_has_the_reversed_weights_of_the_devkit() -> None:
    frames = frames_at(0, 1, 2, 3)
    filled = with_filled_holes(columns([(0, 5, 0.0, 0.2), (3, 5, 9.0, 0.2)]), frames)
    assert filled.frame.tolist() == [0, 1, 2, 3]
    assert filled.center[:, 0] == pytest.approx([0.0, 6.0, 3.0, 9.0])  # not 0, 3, 6, 9


def test_score_of_a_track_is_the_mean_over_its_boxes() -> None:
    boxes = with_mean_scores(columns([(0, 5, 0.0, 0.2), (0, 6, 1.0, 0.9), (1, 5, 0.0, 0.6)]))
    assert boxes.score.tolist() == [np.mean([0.2, 0.6]), 0.9, np.mean([0.2, 0.6])]


def test_object_keeps_its_track_although_another_one_is_nearer() -> None:
    frames = frames_at(0, 0.5)
    truth = columns([(0, 0, 0.0, -1), (1, 0, 0.0, -1)])
    kept = columns([(0, 7, 0.0, 1), (1, 7, 1.9, 1), (1, 8, 0.1, 1)])
    moved = columns([(0, 7, 0.0, 1), (1, 7, 2.0, 1), (1, 8, 0.1, 1)])
    for predictions, switches in ((kept, 0), (moved, 1)):
        figures = evaluate_tracks(predictions, truth, frames).figures()
        assert figures["ids"] == switches


def test_more_pairs_win_over_a_smaller_distance() -> None:
    truth = columns([(0, 0, 0.0, -1), (0, 1, 1.0, -1)])
    predictions = columns([(0, 5, 0.9, 1), (0, 6, 2.9, 1)])  # 0.1 and no pair, or 0.9 and 1.9
    figures = evaluate_tracks(predictions, truth, frames_at(0)).figures()
    assert (figures["tp"], figures["fn"], figures["fp"]) == (2, 0, 0)


def test_class_without_true_boxes_has_no_figures_and_costs_nothing() -> None:
    truth = columns([(0, 0, 0.0, -1)])
    wrong = evaluate_tracks(columns([(0, 5, 0.0, 1)], "bus"), truth, frames_at(0))
    by_class = wrong.by_class()
    assert all(np.isnan(by_class[figure]["bus"]) for figure in FIGURES)
    assert by_class["faf"]["car"] == 500 and by_class["tid"]["car"] == 20
    assert wrong.figures()["fp"] == 0 and wrong.figures()["fn"] == 1


def test_no_prediction_gives_the_worst_figures() -> None:
    truth = columns([(0, 0, 0.0, -1), (1, 0, 0.0, -1)])
    metrics = evaluate_tracks(columns([]), truth, frames_at(0, 0.5))
    figures = metrics.figures()
    assert metrics.no_predictions
    assert (figures["amota"], figures["amotp"], figures["fn"], figures["ml"]) == (0, 2, 2, 1)


def test_no_true_box_leaves_every_figure_undefined() -> None:
    figures = evaluate_tracks(columns([(0, 5, 0.0, 1)]), columns([]), frames_at(0)).figures()
    assert np.isnan(figures["amota"]) and np.isnan(figures["mota"])


def test_repeated_identity_that_matches_twice_is_refused() -> None:
    truth = columns([(0, 0, 0.0, -1)])
    predictions = columns([(0, 5, 0.0, 1), (0, 5, 0.1, 1)])
    with pytest.raises(ValueError, match="2 matched boxes of car for 1 true ones"):
        evaluate_tracks(predictions, truth, frames_at(0))


def test_configuration_refuses_missing_classes_and_impossible_values() -> None:
    with pytest.raises(ValueError, match="class_range_m must name the classes"):
        TrackingMetricConfig(class_range_m={"car": 50})
    with pytest.raises(ValueError, match="min_recall must be in its range; got 0"):
        TrackingMetricConfig(min_recall=0)
    assert list(TrackingMetricConfig().devkit_form()["pretty_tracking_names"]) == list(
        TRACKING_CLASSES
    )
