"""Prediction of lights and signs in single pictures without calibration, into one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.datasets.images import read_image
from bevstack.datasets.traffic_view.pictures import level_camera
from bevstack.runtime.frame_cuer import TRAFFIC, ElementPredictor
from bevstack.runtime.loading import load_tasks
from bevstack.tables.detected_pictures import labelled_image
from bevstack.tables.picture_elements import write_picture_elements
from bevstack.types import Frame

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


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


def named_pictures(images: Path) -> dict[str, Path]:
    """Return the pictures of a folder, sub-folders included, or one picture, by their names.

    Raises:
        FileNotFoundError: there is no such file or folder, or the folder holds no picture.
    """
    if images.is_file():
        return {images.name: images}
    return {path.relative_to(images).as_posix(): path for path in list_pictures(images)}


def picture_frame(
    picture: NDArray[np.uint8],  # (H, W, 3)
) -> Frame:
    """Return a picture as the frame of a level front camera with a usual angle of view."""
    intrinsics, pose = level_camera((int(picture.shape[0]), int(picture.shape[1])))
    return Frame(
        images=[picture],
        intrinsics=intrinsics[None],
        ego_from_cam=pose[None],
        camera_names=("CAM_FRONT",),
        rig_checked=True,
    )
