"""Small moments made by hand."""

from __future__ import annotations

import numpy as np

from bevstack.viewer.moment import BoxArrays, BoxPairs, CameraView, Moment, Predicted
from bevstack.viewer.view_state import ViewState
from bevstack.vocabulary import DETECTION_CLASSES

SCENE = "scene"
STATE = ViewState(scene=SCENE, min_score=0.0)


def boxes(*rows: tuple[float, float, float], label: int = 3, counted: bool = True) -> BoxArrays:
    """Return boxes of 4 x 2 x 1.5 m, each given by x, y and heading."""
    count = len(rows)
    places = np.array(rows, np.float64).reshape(-1, 3)
    return BoxArrays(
        center_m=np.column_stack((places[:, :2], np.full(count, 0.75))),
        size_m=np.tile((4.0, 2.0, 1.5), (count, 1)),
        yaw_rad=places[:, 2],
        velocity_mps=np.tile((np.nan, np.nan), (count, 1)),
        label=np.full(count, label, np.int64),
        identity=np.arange(count, dtype=np.int64),
        counted=np.full(count, counted),
    )


def camera(width: int = 320, height: int = 180) -> CameraView:
    """Return a camera that looks ahead from 1.5 m above the ground, without a picture."""
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.float64)
    pose[:3, 3] = (1.0, 0.0, 1.5)
    matrix = np.array([[250.0, 0, width / 2], [0, 250.0, height / 2], [0, 0, 1]])
    return CameraView(
        name="CAM_FRONT",
        size_px=(width, height),
        intrinsics=matrix,
        ego_from_cam=pose,
        encoded=None,
        missing="<b>lost</b>.jpg",
    )


def moment(
    predicted: BoxArrays | None = None, true: BoxArrays | None = None, score: float = 0.5
) -> Moment:
    """Return a moment of one model, whose box i is matched with the true box i."""
    models = ()
    if predicted is not None:
        pairs = None
        if true is not None:
            count = min(len(predicted), len(true))
            truth = np.full((1, len(predicted)), -1)
            prediction = np.full((1, len(true)), -1)
            truth[0, :count] = prediction[0, :count] = np.arange(count)
            pairs = BoxPairs(
                distances_m=(2.0,),
                truth=truth,
                prediction=prediction,
                errors=np.full((1, 5, len(predicted)), 0.25),
            )
        scores = np.full(len(predicted), score)
        models = (Predicted(name="model", boxes=predicted, score=scores, pairs=pairs),)
    return Moment(
        scene=SCENE,
        index=0,
        timestamp_us=1_700_000_000_000_000,
        class_names=DETECTION_CLASSES,
        predicted=models,
        true=true,
        cameras=(camera(),),
    )
