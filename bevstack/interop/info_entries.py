"""One sample of an information file of mmdetection3d, in either of its forms.

Both forms are those of its converters (``nuscenes_converter.py``, ``update_infos_to_v2.py``). Boxes
are in the frame of LIDAR_TOP, with the centre of gravity; quaternions are wxyz.

- "infos": times in microseconds, poses as quaternion and translation, boxes as arrays.
- "data_list": times in seconds, poses as matrices. The ego pose at a camera's time is not stored;
  it follows from ``lidar2cam``, which holds the motion since then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.geometry import invert_se3
from bevstack.interop.plain_fields import Fields
from bevstack.times import whole_microseconds
from bevstack.types import Boxes3D

IGNORED = ""  # name of a box whose class the file does not name
MAX_BOXES = 10_000  # of one sample


@dataclass(frozen=True)
class InfoCamera:
    """One camera of a sample."""

    name: str  # such as "CAM_FRONT"
    path: str  # of the image, below the folder of the data set
    intrinsics: Tensor  # (3, 3) float64 pixels
    ego_from_cam: Tensor  # (4, 4) float64
    world_from_ego: Tensor  # (4, 4) float64, at the capture time
    timestamp_us: int


@dataclass(frozen=True)
class InfoSample:
    """One sample: cameras, poses and true boxes."""

    token: str
    timestamp_us: int
    ego_from_lidar: Tensor  # (4, 4) float64
    world_from_ego: Tensor  # (4, 4) float64, at the lidar's time
    cameras: tuple[InfoCamera, ...]
    # In the lidar frame, float64; None: the file has none, as that of a test set.
    boxes: Boxes3D | None
    names: tuple[str, ...]  # class of each box, ``IGNORED`` if the file does not name it
    num_points: Tensor  # (A,) int64, lidar and radar points in each box


def sample_from_infos(content: object, *, boxes: str) -> InfoSample:
    """Return the sample of an entry of ``infos``.

    Args:
        content: the entry.
        boxes: "modern" (length, width, height, yaw), or "legacy" (width, length, height,
            -yaw - pi/2) as mmdetection3d before 1.0 wrote them.

    Raises:
        ValueError: the entry is of another form.
    """
    fields = Fields(content, "")
    ego_from_lidar = fields.motion_from_parts("lidar2ego")
    cameras = fields.inner("cams")
    found = None
    names: tuple[str, ...] = ()
    points = np.zeros(0)
    if "gt_boxes" in fields.content:
        rows = fields.array("gt_boxes", (None, 7))
        velocity = fields.array("gt_velocity", (len(rows), 2))
        names = _box_names(fields, len(rows))
        points = fields.array("num_lidar_pts", (len(rows),))
        points = points + fields.array("num_radar_pts", (len(rows),))
        found = _boxes(rows, velocity, legacy=boxes == "legacy")
    return InfoSample(
        token=fields.text("token"),
        timestamp_us=whole_microseconds("timestamp", fields.get("timestamp")),
        ego_from_lidar=ego_from_lidar,
        world_from_ego=fields.motion_from_parts("ego2global"),
        cameras=tuple(_camera_of_infos(cameras, name) for name in _camera_names(cameras)),
        boxes=found,
        names=names,
        num_points=torch.from_numpy(points).to(torch.int64),
    )


def _camera_of_infos(cameras: Fields, name: str) -> InfoCamera:
    fields = cameras.inner(name)
    path = fields.text("data_path").replace("\\", "/")
    # It is relative to the folder in which the converter ran: keep the part below the data set's.
    parts = path.split("/")
    starts = [index for index, part in enumerate(parts) if part in ("samples", "sweeps")]
    return InfoCamera(
        name,
        "/".join(parts[starts[-1] :]) if starts else path,
        fields.intrinsics("cam_intrinsic"),
        fields.motion_from_parts("sensor2ego"),
        fields.motion_from_parts("ego2global"),
        whole_microseconds("timestamp", fields.get("timestamp")),
    )


def sample_from_data_list(content: object, *, class_names: Mapping[int, str]) -> InfoSample:
    """Return the sample of an entry of ``data_list``.

    Args:
        content: the entry.
        class_names: names of the labels, of the file's ``metainfo``.

    Raises:
        ValueError: the entry is of another form.
    """
    fields = Fields(content, "")
    ego_from_lidar = fields.inner("lidar_points").motion("lidar2ego")
    world_from_ego = fields.motion("ego2global")
    cameras = fields.inner("images")
    world_from_lidar = world_from_ego @ ego_from_lidar
    found = None
    names: tuple[str, ...] = ()
    points: list[float] = []
    if "instances" in fields.content:
        instances = [
            Fields(entry, f"instances[{row}]")
            for row, entry in enumerate(fields.items("instances"))
        ]
        _check_count(len(instances))
        rows = np.array([entry.array("bbox_3d", (7,)) for entry in instances]).reshape(-1, 7)
        velocity = np.array([entry.array("velocity", (2,)) for entry in instances]).reshape(-1, 2)
        labels = [entry.number("bbox_label_3d") for entry in instances]
        names = tuple(class_names.get(int(label), IGNORED) for label in labels)
        points = [
            entry.number("num_lidar_pts") + entry.number("num_radar_pts") for entry in instances
        ]
        found = _boxes(rows, velocity, legacy=False)
    return InfoSample(
        token=fields.text("token"),
        timestamp_us=_microseconds(fields),
        ego_from_lidar=ego_from_lidar,
        world_from_ego=world_from_ego,
        cameras=tuple(
            _camera_of_data_list(cameras, name, world_from_lidar) for name in _camera_names(cameras)
        ),
        boxes=found,
        names=names,
        num_points=torch.tensor(points, dtype=torch.float64).to(torch.int64),
    )


def _camera_of_data_list(cameras: Fields, name: str, world_from_lidar: Tensor) -> InfoCamera:
    fields = cameras.inner(name)
    path = fields.text("img_path")
    ego_from_cam = fields.motion("cam2ego")
    world_from_cam = world_from_lidar @ invert_se3(fields.motion("lidar2cam"))
    return InfoCamera(
        name,
        path if "/" in path else f"samples/{name}/{path}",
        fields.intrinsics("cam2img"),
        ego_from_cam,
        world_from_cam @ invert_se3(ego_from_cam),
        _microseconds(fields),
    )


def _microseconds(fields: Fields) -> int:
    return whole_microseconds("timestamp", round(fields.number("timestamp") * 1e6))


def _camera_names(cameras: Fields) -> list[str]:
    names = [name for name in cameras.content if isinstance(name, str)]
    if not names:
        raise ValueError(f"{cameras.where} must hold one camera or more; got none")
    return names


def _box_names(fields: Fields, count: int) -> tuple[str, ...]:
    names = np.asarray(fields.get("gt_names"))
    if names.shape != (count,) or (count and names.dtype.kind != "U"):
        raise ValueError(f"gt_names must be {count} texts, one a box; got {names.shape}")
    return tuple(str(name) for name in names)


def _boxes(
    rows: NDArray[np.float64],  # (A, 7)
    velocity: NDArray[np.float64],  # (A, 2)
    *,
    legacy: bool,
) -> Boxes3D:
    _check_count(len(rows))
    size, yaw = rows[:, 3:6], rows[:, 6]
    if legacy:
        size, yaw = size[:, [1, 0, 2]], -yaw - math.pi / 2
    columns = (torch.from_numpy(column.copy()) for column in (rows[:, :3], size, yaw, velocity))
    return Boxes3D(*columns)


def _check_count(count: int) -> None:
    if count > MAX_BOXES:
        raise ValueError(f"boxes must be at most {MAX_BOXES:,}; got {count:,}")
