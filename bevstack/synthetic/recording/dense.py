"""Dense labels of a picture: depth in centimetres and semantic classes, as PNG files and rows."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.recording.camera import Moment, Picture, camera_pose
from bevstack.synthetic.recording.labels import Row
from bevstack.synthetic.renderer.dense_labels import label_pixels
from bevstack.synthetic.renderer.primitives import C_INSTANCE, C_SEMANTIC
from bevstack.synthetic.rig import CameraMount
from bevstack.synthetic.scene import Scene
from bevstack.synthetic.streets.ground import OFF_ROAD, ROAD, TEXELS_PER_M, WALK
from bevstack.vocabulary import SEMANTIC_CLASSES, TRAFFIC_LIGHT

# Fixed codes: a tenth less time and a third fewer bytes for depth than OpenCV's default.
_PNG = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_FIXED]
_TWO_WHEELERS = ("vehicle.bicycle", "vehicle.motorcycle")
_THINGS_OF_PEOPLE = ("human.pedestrian.stroller", "human.pedestrian.personal_mobility")


class DenseLabels(NamedTuple):
    """Labels of every pixel of one image, without the effect of drops on the lens."""

    depth_cm: NDArray[np.uint16]  # (H, W) along the optical axis; 0: the sky, or beyond 655.35 m
    semantic: NDArray[np.uint8]  # (H, W) index in `vocabulary.SEMANTIC_CLASSES`


def semantic_class(category: str) -> str:
    """Return the semantic class of objects of a nuScenes category; a rider is a two-wheeler."""
    if category in _TWO_WHEELERS:
        return "two_wheeler"
    if category.startswith("vehicle."):
        return "vehicle"
    if category.startswith("human.") and category not in _THINGS_OF_PEOPLE:
        return "person"
    return "other_object"


def instance_classes(scene: Scene) -> NDArray[np.uint8]:
    """Return the semantic class (objects + controls,) of each instance of a scene."""
    names = [semantic_class(item.model.category) for item in scene.objects]
    names += [
        "traffic_light" if control.category == TRAFFIC_LIGHT else "traffic_sign"
        for control in scene.controls
    ]
    return np.array([SEMANTIC_CLASSES.index(name) for name in names], np.uint8)


def label_picture(
    scene: Scene,
    classes: NDArray[np.uint8],  # (objects + controls,) of `instance_classes`
    moment: Moment,
    camera: CameraMount,
    picture: Picture,
) -> DenseLabels:
    """Return the dense labels of a picture that was taken of this moment by this camera."""
    parts = moment.primitives
    instance = parts.codes[:, C_INSTANCE]
    semantics = parts.codes[:, C_SEMANTIC].astype(np.uint8)
    owned = instance >= 0
    semantics[owned] = classes[instance[owned]]
    height, width = scene.rig.image_size
    factor = picture.owner.shape[0] // height
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2] *= factor
    surfaces = np.zeros(3, np.uint8)
    for kind, name in ((OFF_ROAD, "terrain"), (WALK, "sidewalk"), (ROAD, "road")):
        surfaces[kind] = SEMANTIC_CLASSES.index(name)
    labels = DenseLabels(np.empty((height, width), np.uint16), np.empty((height, width), np.uint8))
    label_pixels(
        picture.depth,
        picture.owner,
        semantics,
        *camera_pose(moment.ego_pose, camera),
        intrinsics,
        scene.ground.surface,
        surfaces,
        scene.ground.corner_m,
        TEXELS_PER_M,
        factor,
        *labels,
    )
    return labels


def encode_labels(
    labels: DenseLabels,
    image_path: str,  # of the camera image, below the root
    token: str,  # of the image in `sample_data`
) -> tuple[dict[str, bytes], Row]:
    """Return the PNG files of an image's labels by path, and its row of `dense_label`."""
    files, row = {}, {"sample_data_token": token}
    for kind, values in (("depth", labels.depth_cm), ("semantic", labels.semantic)):
        path = f"dense/{kind}/{image_path.rsplit('.', 1)[0]}.png"
        files[path] = cv2.imencode(".png", values, _PNG)[1].tobytes()
        row[f"{kind}_filename"] = path
    return files, dict(row)
