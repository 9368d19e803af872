"""Prediction of lights and signs in single pictures without calibration, into one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.datasets.images import read_image
from bevstack.runtime.frame_cuer import TRAFFIC, ElementPredictor
from bevstack.runtime.loading import load_tasks
from bevstack.tables.picture_elements import write_picture_elements
from bevstack.types import Frame
from bevstack.types.labelled_images import LabelledImage
from bevstack.types.traffic import HOUSING, LAMP, TrafficElement
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import LAMP_SHAPES, TRAFFIC_ELEMENT_ATTRIBUTES, TRAFFIC_LIGHT

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
# Camera that a picture without calibration is taken for: 53 degrees wide, as a phone's or a front
# camera's. Distances follow from it, boxes and states do not.
_FOCAL_PER_WIDTH = 1.0
_HEIGHT_M = 1.5
# OpenLane-V2's attribute of an arrow lamp, in files that annotate arrows of lit lamps.
_ARROW_ATTRIBUTES = {
    "straight": "go_straight",
    "left": "turn_left",
    "right": "turn_right",
    "u_turn": "u_turn",
    "slight_left": "slight_left",
    "slight_right": "slight_right",
}


@dataclass(frozen=True)
class PictureSummary:
    """Numbers of predicted pictures."""

    num_pictures: int
    num_elements: int


def load_traffic(
    weights: str | Path, device: str | torch.device = "cpu", *, verify: bool = True
) -> ElementPredictor:
    """Load the predictor of lights and signs of a weights file, whatever else the file holds.

    Raises:
        FileNotFoundError: there is no such file or name.
        ValueError: the file is damaged, or lacks the task "traffic".
    """
    found = load_tasks(weights, device, verify=verify)
    predictor = found.get(TRAFFIC)
    if not isinstance(predictor, ElementPredictor):
        raise ValueError(
            f"weights must have the task {TRAFFIC!r}; got {weights} of {', '.join(found)}: take "
            "other weights, or give --rig FILE to predict boxes"
        )
    return predictor


def predict_pictures(
    predictor: ElementPredictor,
    folder: Path,
    out: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> PictureSummary:
    """Predict the lights and signs of every picture in a folder, sub-folders included.

    The file has the form of ``tables.picture_elements``, with OpenLane-V2's attributes and
    confidences. Paths are relative to the folder. A lamp's box whose lamp is an arrow has the
    attribute of the arrow.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no picture.
        ValueError: a picture is damaged; names it.
        OSError: the file cannot be written.
    """
    paths = list_pictures(folder)
    images = []
    for number, path in enumerate(paths):
        picture = read_image(path)
        elements = predictor.predict(picture_frame(picture))
        name = path.relative_to(folder).as_posix()
        images.append(labelled_image(name, picture.shape[:2], elements))
        if progress is not None:
            progress(number + 1, len(paths))
    write_picture_elements(out, images)
    return PictureSummary(len(images), sum(len(image.elements) for image in images))


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures in a folder and its sub-folders, in the order of their names.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no picture.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--images must be a folder with pictures; got {folder}, no folder")
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise FileNotFoundError(
            f"folder must hold pictures ({', '.join(SUFFIXES)}); got none in {folder}"
        )
    return paths


def picture_frame(
    picture: NDArray[np.uint8],  # (H, W, 3)
) -> Frame:
    """Return a picture as the frame of a level front camera with a usual angle of view."""
    height, width = picture.shape[:2]
    focal = _FOCAL_PER_WIDTH * max(height, width)
    pose = torch.eye(4, dtype=torch.float64)
    # columns: right, down and forward in the ego frame
    pose[:3, :3] = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    pose[2, 3] = _HEIGHT_M
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Frame(
        images=[picture],
        intrinsics=intrinsics[None],
        ego_from_cam=pose[None],
        camera_names=("CAM_FRONT",),
        rig_checked=True,
    )


def labelled_image(path: str, size: tuple[int, ...], elements: TrafficDetections) -> LabelledImage:
    """Return predicted elements of one picture with OpenLane-V2's attributes, best first."""
    attributes, confidences = elements.openlane_attributes()
    arrows = np.array([_arrow(name) for name in LAMP_SHAPES])
    is_lamp = np.zeros(len(elements), bool) if elements.lamp_box is None else elements.lamp_box
    if len(elements):
        shape = elements.shape.argmax(axis=1)
        probability = elements.shape.max(axis=1)
        is_arrow = (elements.category == TRAFFIC_LIGHT) & is_lamp & (arrows[shape] >= 0)
        attributes = np.where(is_arrow, arrows[shape], attributes)
        confidences = np.where(is_arrow, elements.scores * probability, confidences)
    order = np.argsort(-confidences, kind="stable")
    height, width = size[:2]
    rows = []
    for number, row in enumerate(order.tolist()):
        left, top, right, bottom = elements.boxes_px[row].tolist()
        rows.append(
            TrafficElement(
                token=str(number),
                category=int(elements.category[row]),
                attribute=int(attributes[row]),
                box_px=(left, top, right, bottom),
                sample_data_token=path,
                box_convention=LAMP if is_lamp[row] else HOUSING,
            )
        )
    return LabelledImage(
        path=path,
        size=(int(height), int(width)),
        elements=tuple(rows),
        scores=tuple(confidences[order].tolist()),
    )


def _arrow(shape: str) -> int:
    """Return the attribute of an arrow lamp; -1 for a lamp that is no arrow."""
    name = _ARROW_ATTRIBUTES.get(shape)
    return -1 if name is None else TRAFFIC_ELEMENT_ATTRIBUTES.index(name)
