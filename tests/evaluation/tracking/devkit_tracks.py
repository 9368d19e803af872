"""The devkit's own tracking evaluation of a random case; needs motmetrics and pandas."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import numpy as np

from bevstack.evaluation.tracking.class_scores import LEVEL_FIGURES
from bevstack.evaluation.tracking.track_columns import TrackColumns
from bevstack.evaluation.tracking.tracking_config import TRACKING_CLASSES
from bevstack.vocabulary import DETECTION_CLASSES
from tests.evaluation.tracking.random_tracks import Case


def devkit_answers(case: Case) -> np.ndarray:
    """Return AMOTA, AMOTP and the figures of all classes, as ``own_answers`` does."""
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.tracking import evaluate, loaders

    config = config_factory("tracking_nips_2019")
    with mock.patch.object(loaders, "get_scenes_of_split", lambda **_: names(case)):
        tracks = [
            loaders.create_tracks(boxes, tables(case), "any", gt=gt)
            for boxes, gt in (
                (eval_boxes(case.truth, case), True),
                (eval_boxes(case.predictions, case), False),
            )
        ]
    evaluation = evaluate.TrackingEval.__new__(evaluate.TrackingEval)
    evaluation.cfg, evaluation.verbose, evaluation.output_dir = config, False, ""
    evaluation.tracks_gt, evaluation.tracks_pred = tracks
    evaluation.render_classes = []
    metrics, details = evaluation.evaluate()
    rows = [
        np.array([details[name].get_metric(figure) for figure in LEVEL_FIGURES]).ravel()
        for name in TRACKING_CLASSES
    ]
    summary = metrics.serialize()["label_metrics"]
    figures = [
        [summary[figure][name] for figure in ("amota", "amotp", *LEVEL_FIGURES)]
        for name in TRACKING_CLASSES
    ]
    return np.concatenate([*rows, np.array(figures).ravel()])


def names(case: Case) -> list[str]:
    return [f"scene {number}" for number in set(case.frames.scene.tolist())]


def tables(case: Case) -> SimpleNamespace:
    """Return the rows that the devkit looks up, as its tables give them."""
    scene, time = case.frames.scene.tolist(), case.frames.timestamp_us.tolist()

    def get(table: str, token: str) -> dict[str, object]:
        number = int(token.split()[1])
        if table == "sample":
            return {
                "scene_token": f"scene {scene[number]}",
                "timestamp": time[number],
                "next": f"sample {number + 1}",
            }
        members = [k for k, owner in enumerate(scene) if owner == number]
        return {
            "name": token,
            "first_sample_token": f"sample {members[0]}",
            "last_sample_token": f"sample {members[-1]}",
        }

    return SimpleNamespace(get=get)


def eval_boxes(boxes: TrackColumns, case: Case) -> object:
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.tracking.data_classes import TrackingBox

    result = EvalBoxes()
    for frame in range(len(case.frames)):
        token = f"sample {frame}"
        result.add_boxes(
            token,
            [
                TrackingBox(
                    sample_token=token,
                    translation=(*boxes.center[n].tolist(), 0.0),
                    size=(1.0, 1.0, 1.0),
                    rotation=(1.0, 0.0, 0.0, 0.0),
                    tracking_id=str(boxes.track[n]),
                    tracking_name=DETECTION_CLASSES[boxes.label[n]],
                    tracking_score=float(boxes.score[n]),
                )
                for n in np.flatnonzero(boxes.frame == frame)
            ],
        )
    return result
