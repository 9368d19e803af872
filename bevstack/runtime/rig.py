"""Camera rigs: the calibration file ``rig.json`` and the images that belong to it.

A rig file is one JSON object::

    {
      "format": "bevstack-rig-1",
      "cameras": [
        {
          "name": "CAM_FRONT",
          "image": "front.jpg",
          "width": 1600, "height": 900,
          "intrinsics": [[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]],
          "ego_from_cam": {
            "rotation_wxyz": [0.4998, -0.5030, 0.4998, -0.4974],
            "translation_m": [1.701, 0.016, 1.511]
          },
          "distortion": {"model": "plumb_bob", "coefficients": [-0.32, 0.11, 0.0, 0.0, 0.0]},
          "lost": false
        }
      ]
    }

``intrinsics`` are in pixels of the ``width`` x ``height`` image before undistortion.
``ego_from_cam`` may also be a 4 x 4 matrix (list of rows). The ego frame is x forward, y left,
z up, with its origin on the ground under the rear axle; a camera frame is x right, y down,
z forward.
Optional: ``image`` (default ``<name>.jpg`` or ``<name>.png``), ``distortion``, ``lost``, and
``timestamp_us``; at the top level ``timestamp_us`` and ``world_from_ego``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.datasets.images import read_image
from bevstack.file_names import path_inside
from bevstack.geometry.camera import check_intrinsics
from bevstack.geometry.lenses import LENS_MODELS, Lens
from bevstack.geometry.rig_plausibility import (
    RigCameras,
    find_rig_faults,
    warn_of_rig_faults,
)
from bevstack.json_files import (
    expect_flag,
    expect_integer,
    expect_list,
    expect_numbers,
    expect_text,
    read_json,
    shorten,
)
from bevstack.runtime.rig_fields import check_fields, read_matrix, read_pose
from bevstack.types import Frame

FORMAT = "bevstack-rig-1"
MAX_CAMERAS = 64
MAX_SIDE_PX = 1 << 16  # of an image
TOP_FIELDS = ("format", "cameras", "timestamp_us", "world_from_ego")
CAMERA_FIELDS = (
    "name",
    "image",
    "width",
    "height",
    "intrinsics",
    "ego_from_cam",
    "distortion",
    "lost",
    "timestamp_us",
)


@dataclass(frozen=True, kw_only=True)
class RigCamera:
    """Camera of a rig file."""

    name: str
    image: str | None  # file name below the images' folder; None: <name>.jpg or <name>.png
    image_size: tuple[int, int]  # (H, W) pixels
    intrinsics: Tensor  # (3, 3) float64, pixels, before undistortion
    ego_from_cam: Tensor  # (4, 4) float64, metres
    lens: Lens | None  # None: an ideal pinhole
    lost: bool
    timestamp_us: int | None


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Content of a rig file: cameras, and optionally the time and pose of the images."""

    cameras: tuple[RigCamera, ...]
    timestamp_us: int  # 0 if the file gives none
    world_from_ego: Tensor | None  # (4, 4) float64


def read_rig(path: str | Path) -> Rig:
    """Read a rig file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON, a field is unknown, missing or of another kind, a lens
            model is unknown, or a calibration is not finite, invertible and right-handed. The
            message names the camera.

    Warns:
        ImplausibleRigWarning: a camera cannot be where the file puts it; see ``find_rig_faults``.
    """
    path = Path(path)
    values = read_json(path, "rig file", allow_nan=True)  # NaN is refused with its field below
    check_fields(str(path), values, TOP_FIELDS, required=("format", "cameras"))
    if values["format"] != FORMAT:
        raise ValueError(f"{path}: format must be {FORMAT!r}; got {shorten(values['format'])}")
    if not isinstance(values["cameras"], list) or not 0 < len(values["cameras"]) <= MAX_CAMERAS:
        raise ValueError(
            f"{path}: cameras must be a list of at least one and at most {MAX_CAMERAS}; got "
            f"{shorten(values['cameras'])}"
        )
    cameras = tuple(_camera(value, index) for index, value in enumerate(values["cameras"]))
    names = [camera.name for camera in cameras]
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: camera names must be distinct; got {shorten(names)}")
    pose = values.get("world_from_ego")
    time_us = values.get("timestamp_us")
    warn_of_rig_faults(find_rig_faults(_calibrations(cameras, values["cameras"])))
    return Rig(
        cameras=cameras,
        timestamp_us=0 if time_us is None else expect_integer("timestamp_us", time_us, low=0),
        world_from_ego=None if pose is None else read_pose("world_from_ego", pose),
    )


def _calibrations(cameras: Sequence[RigCamera], values: Sequence[Any]) -> RigCameras:
    """Return what the check of plausibility needs; ``values`` are the cameras in the file."""
    poses = [value["ego_from_cam"] for value in values]
    return RigCameras(
        names=[camera.name for camera in cameras],
        ego_from_cam=torch.stack([camera.ego_from_cam for camera in cameras]).numpy(),
        intrinsics=torch.stack([camera.intrinsics for camera in cameras]).numpy(),
        image_size=np.array([camera.image_size for camera in cameras]),
        fisheye=np.array([c.lens is not None and c.lens.is_fisheye for c in cameras]),
        norm=np.array(
            [np.linalg.norm(p["rotation_wxyz"]) if isinstance(p, dict) else 1.0 for p in poses]
        ),
    )


def frame_from_rig(
    rig: Rig,
    images: str | Path | Mapping[str, NDArray[np.uint8]],
    lost: Collection[str] = (),
    *,
    allow_outside: bool = False,
) -> Frame:
    """Read, check and undistort the images of a rig as one frame.

    Args:
        rig: the calibration.
        images: folder of the image files, or RGB uint8 arrays by camera name.
        lost: names of cameras without an image, in addition to those the rig file marks as lost.
        allow_outside: the rig file is trusted, and may name images outside of the folder.

    Raises:
        FileNotFoundError: an image file is missing (name the camera in ``lost`` if it is lost).
        ValueError: an image is damaged or not of the rig's size, a name is unknown, all cameras
            are lost, or times are not in microseconds.

    Warns:
        StaleCameraWarning: a camera's time is too far from the frame's, so that it counts as lost.
    """
    names = [camera.name for camera in rig.cameras]
    for name in lost:
        if name not in names:
            raise ValueError(f"lost camera must be one of {', '.join(names)}; got {name!r}")
    loaded = [
        None if camera.lost or camera.name in lost else _load(camera, images, allow_outside)
        for camera in rig.cameras
    ]
    return assemble_frame(rig, loaded)


def assemble_frame(
    rig: Rig,
    images: Sequence[NDArray[np.uint8] | None],  # N of (H, W, 3) RGB, None for a lost camera
    *,
    world_from_ego_at_camera: Tensor | None = None,  # (N, 4, 4)
    sample_token: str = "",
) -> Frame:
    """Undistort images of the rig's sizes, in its order, and return them as a frame.

    Raises:
        ValueError: all cameras are lost, or times are not in microseconds.

    Warns:
        StaleCameraWarning: a camera's time is too far from the frame's, so that it counts as lost.
    """
    names = tuple(camera.name for camera in rig.cameras)
    if all(image is None for image in images):
        raise ValueError(f"at least one camera must have an image; got {list(names)}, all lost")
    undistorted = [
        (image, camera.intrinsics)
        if camera.lens is None
        else camera.lens.undistort(image, camera.intrinsics, camera.image_size)
        for camera, image in zip(rig.cameras, images, strict=True)
    ]
    return Frame(
        images=[image for image, _ in undistorted],
        intrinsics=torch.stack([intrinsics for _, intrinsics in undistorted]),
        ego_from_cam=torch.stack([camera.ego_from_cam for camera in rig.cameras]),
        camera_names=names,
        timestamp_us=rig.timestamp_us,
        camera_timestamp_us=tuple(camera.timestamp_us or 0 for camera in rig.cameras),  # 0: unknown
        world_from_ego=rig.world_from_ego,
        world_from_ego_at_camera=world_from_ego_at_camera,
        sample_token=sample_token,
        rig_checked=True,  # by ``read_rig``
    )


def _load(
    camera: RigCamera,
    images: str | Path | Mapping[str, NDArray[np.uint8]],
    allow_outside: bool,
) -> NDArray[np.uint8]:
    if isinstance(images, Mapping):
        if camera.name not in images:
            raise ValueError(f"images must hold camera {camera.name!r}; got {sorted(images)}")
        image = images[camera.name]
        source = f"image of {camera.name}"
    else:
        path = _image_path(camera, Path(images), allow_outside)
        image = read_image(path)
        source = str(path)
    if image.shape[:2] != camera.image_size:
        height, width = camera.image_size
        raise ValueError(
            f"{source} must be {width}x{height} pixels, as in the rig file; "
            f"got {image.shape[1]}x{image.shape[0]}: intrinsics are valid for one size only"
        )
    return image


def _image_path(camera: RigCamera, folder: Path, allow_outside: bool) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"folder of images must exist; got {folder}")
    candidates = [camera.image] if camera.image else [f"{camera.name}.jpg", f"{camera.name}.png"]
    for candidate in candidates:
        path = path_inside(
            folder,
            candidate,
            what=f"image of camera {camera.name!a}",
            allow_outside=allow_outside,
        )
        if path.exists():
            return path  # read_image refuses all but regular files
    raise FileNotFoundError(
        f"image of camera {camera.name} must exist as {' or '.join(map(str, candidates))} in "
        f"{folder}; got no such file: if the camera is lost, add --lost {camera.name}"
    )


def _camera(values: Any, index: int) -> RigCamera:
    where = f"cameras[{index}]"
    required = ("name", "width", "height", "intrinsics", "ego_from_cam")
    check_fields(where, values, CAMERA_FIELDS, required=required)
    name = expect_text(f"name of {where}", values["name"])
    where = f"camera {name!r}"
    intrinsics = read_matrix(f"{where}: intrinsics", values["intrinsics"], (3, 3))
    check_intrinsics(f"{where}: intrinsics", intrinsics)
    size = (values["height"], values["width"])
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in size)
    if not whole or not all(0 < side <= MAX_SIDE_PX for side in size):
        raise ValueError(
            f"{where}: width and height must be positive pixel counts up to {MAX_SIDE_PX}; got "
            f"{shorten(size)}"
        )
    image, time_us = values.get("image"), values.get("timestamp_us")
    return RigCamera(
        name=name,
        image=None if image is None else expect_text(f"{where}: image", image),
        image_size=size,
        intrinsics=intrinsics,
        ego_from_cam=read_pose(f"{where}: ego_from_cam", values["ego_from_cam"]),
        lens=_lens(where, values.get("distortion")),
        lost=expect_flag(f"{where}: lost", values.get("lost", False)),
        timestamp_us=None
        if time_us is None
        else expect_integer(f"{where}: timestamp_us", time_us, low=0),
    )


def _lens(where: str, values: Any) -> Lens | None:
    if values is None:
        return None
    check_fields(
        f"{where}: distortion",
        values,
        ("model", "coefficients"),
        required=("model", "coefficients"),
    )
    model = values["model"]
    if not isinstance(model, str) or model not in LENS_MODELS:
        raise ValueError(
            f"{where}: lens model must be one of {', '.join(LENS_MODELS)}; "
            f"got {shorten(model)}: undistort the images beforehand and leave distortion out"
        )
    coefficients = expect_list(f"{where}: coefficients", values["coefficients"])
    numbers = expect_numbers(f"{where}: coefficients", coefficients, (len(coefficients),))
    return Lens(model, tuple(numbers.tolist()), where)


__all__ = ["FORMAT", "Rig", "RigCamera", "assemble_frame", "frame_from_rig", "read_rig"]
