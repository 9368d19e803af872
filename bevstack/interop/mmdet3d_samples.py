"""Samples of mmdetection3d's camera pipelines as our frames, and its boxes as ours.

The packages of OpenMMLab are not needed: samples are dictionaries, boxes are tensors. Conventions
of mmdetection3d 1.x: boxes are (x, y, z, length, width, height, yaw, vx, vy) in the lidar's frame,
with z at the bottom; yaw is counter-clockwise from x.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.datasets.camera_annotations import outlines
from bevstack.geometry import invert_se3, nominal_bev_from_ego, quaternion_from_rotation
from bevstack.geometry.se3 import se3_from_parts
from bevstack.shapes import expect_shape
from bevstack.types import Annotations, Boxes3D, CameraAnnotations, Frame
from bevstack.types.perspective import UNKNOWN_ATTRIBUTE, UNKNOWN_VISIBILITY
from bevstack.vocabulary import CAMERA_CHANNELS

# Classes of mmdetection3d's NuScenesDataset, in the order of its labels.
CLASSES = (
    *("car", "truck", "trailer", "bus", "construction_vehicle", "bicycle", "motorcycle"),
    *("pedestrian", "traffic_cone", "barrier"),
)
# Entries of augmentations in 3D, and their values where nothing was changed.
_NEUTRAL: Mapping[str, object] = {
    "pcd_horizontal_flip": False,
    "pcd_vertical_flip": False,
    "pcd_scale_factor": 1.0,
    "pcd_rotation_angle": 0.0,
    "pcd_trans": (0.0, 0.0, 0.0),
    "flip": False,
}
NOT_COUNTED = -1


def frame_from_sample(
    images: Tensor,  # (N, 3, H, W) RGB, 0 to 255, padded on the right and at the bottom
    meta: Mapping[str, Any],
    *,
    grid_frame: str,
) -> Frame:
    """Return the frame of a sample of ``Pack3DDetInputs``.

    Its bev frame is that of the model's grid: the lidar's, or the ego frame. Between the two lies
    ``lidar2ego`` of the sample, or nuScenes' nominal place of the lidar if the sample has none.

    Args:
        images: images as the data preprocessor batches them; values are rounded.
        meta: the sample's meta information: ``lidar2img``, or else ``cam2img`` and ``lidar2cam``,
            with one matrix a camera; ``img_shape`` without padding; ``img_path`` names the cameras.
        grid_frame: "lidar" or "ego".

    Raises:
        ValueError: an entry is missing or of another form, or the sample is augmented in 3D.
    """
    expect_shape("images", images, ("N", 3, "H", "W"))
    _check_unchanged(meta)
    count = len(images)
    intrinsics, cam_from_lidar = cameras_from_meta(meta, count)
    ego_from_lidar = _ego_from_lidar(meta)
    bev_from_ego = torch.eye(4, dtype=torch.float64)
    if grid_frame == "lidar":
        bev_from_ego = invert_se3(ego_from_lidar)
    pixels = images.detach().round().clamp(0, 255).to("cpu", torch.uint8).permute(0, 2, 3, 1)
    return Frame(
        images=[
            np.ascontiguousarray(image[:height, :width].numpy())
            for image, (height, width) in zip(pixels, _image_sizes(meta, images), strict=True)
        ],
        intrinsics=intrinsics,
        ego_from_cam=ego_from_lidar @ invert_se3(cam_from_lidar),
        camera_names=_camera_names(meta, count),
        bev_from_ego=bev_from_ego,
        sample_token=str(meta.get("token", meta.get("sample_idx", ""))),
    )


def cameras_from_meta(
    meta: Mapping[str, Any], count: int
) -> tuple[Tensor, Tensor]:  # (N, 3, 3), (N, 4, 4) float64
    """Return intrinsics and ``cam_from_lidar`` of every camera.

    ``lidar2img`` comes first, because pipelines that resize or crop images change it.

    Raises:
        ValueError: the matrices are missing, or not one a camera.
    """
    if "lidar2img" in meta:
        return split_projections(_matrices(meta, "lidar2img", count)[:, :3])
    intrinsics = _matrices(meta, "cam2img", count)[:, :3, :3]
    return intrinsics.clone(), _matrices(meta, "lidar2cam", count)


def split_projections(
    image_from_lidar: Tensor,  # (N, 3, 4) float64
) -> tuple[Tensor, Tensor]:  # (N, 3, 3), (N, 4, 4)
    """Split projections into intrinsics and ``cam_from_lidar``, by an RQ decomposition.

    Raises:
        ValueError: a matrix is no projection, or mirrors the image.
    """
    # RQ of M is QR of M with its rows in reverse order, transposed.
    rotated, upper = torch.linalg.qr(image_from_lidar[:, :, :3].flip(1).transpose(1, 2))
    intrinsics = upper.transpose(1, 2).flip(1, 2)
    rotation = rotated.transpose(1, 2).flip(1)
    sign = intrinsics.diagonal(dim1=1, dim2=2).sign()
    intrinsics, rotation = intrinsics * sign[:, None, :], rotation * sign[:, :, None]
    good = (sign != 0).all(1) & (torch.linalg.det(rotation) > 0)
    if not bool(good.all()):
        camera = int((~good).nonzero()[0])
        raise ValueError(
            f"lidar2img must project without mirroring; got another matrix of camera {camera}: "
            "leave out flips of the images"
        )
    translation = torch.linalg.solve(intrinsics, image_from_lidar[:, :, 3])
    scale = intrinsics[:, 2, 2, None, None]
    intrinsics = (intrinsics / scale).triu()
    return intrinsics, se3_from_parts(rotation, translation)


def boxes_from_lidar(
    rows: Tensor,  # (A, 7) or (A, 9), see the module
) -> Boxes3D:
    """Return boxes of mmdetection3d as ours; without columns of velocity it is unknown.

    Raises:
        ValueError: another number of columns.
    """
    expect_shape("boxes", rows, ("A", "D"))
    if rows.shape[1] not in (7, 9):
        raise ValueError(f"boxes must have 7 or 9 columns; got {rows.shape[1]}")
    center, size = rows[:, :3].clone(), rows[:, 3:6]
    center[:, 2] += size[:, 2] / 2
    velocity = rows[:, 7:] if rows.shape[1] == 9 else rows.new_full((len(rows), 2), torch.nan)
    return Boxes3D(center, size, rows[:, 6], velocity)


def boxes_to_lidar(boxes: Boxes3D) -> Tensor:  # (A, 9)
    """Return boxes as mmdetection3d stores them; see the module."""
    bottom = boxes.center.clone()
    bottom[:, 2] -= boxes.size[:, 2] / 2
    return torch.cat((bottom, boxes.size, boxes.yaw[:, None], boxes.velocity), 1)


def lidar_from_bev(frame: Frame, meta: Mapping[str, Any]) -> Tensor:  # (4, 4) float64
    """Return the motion from a frame's bev frame to the lidar of its sample.

    Args:
        frame: a result of ``frame_from_sample``.
        meta: the same sample's meta information.

    Raises:
        ValueError: ``lidar2ego`` is no rigid motion.
    """
    assert frame.bev_from_ego is not None  # set by frame_from_sample
    return invert_se3(frame.bev_from_ego @ _ego_from_lidar(meta))


def annotations_from_lidar(
    rows: Tensor,  # (A, 7) or (A, 9)
    labels: Tensor,  # (A,) of mmdetection3d, -1: not used
    label_from_theirs: Tensor,  # (K,) our label, -1: not a class of the model
    bev_from_lidar: Tensor,  # (4, 4)
) -> Annotations:
    """Return true boxes of mmdetection3d in the bev frame, without those of no class."""
    ours = torch.where(labels >= 0, label_from_theirs[labels.clamp(min=0)], -1)
    kept = ours >= 0
    boxes = boxes_from_lidar(rows[kept].double()).transformed(bev_from_lidar).to(torch.float32)
    return Annotations(boxes, ours[kept], torch.full((len(boxes),), NOT_COUNTED))


def camera_boxes(frame: Frame, annotations: Annotations) -> tuple[CameraAnnotations, ...]:  # N
    """Return the boxes that each camera sees, at the frame's time, for the perspective head.

    mmdetection3d gives neither attributes nor levels of visibility; both are unknown. Objects are
    where they were at the lidar's time: a camera's own time is not in its samples.
    """
    rig = frame.rig()
    boxes = annotations.boxes.to(torch.float64)
    cos, sin = torch.cos(boxes.yaw), torch.sin(boxes.yaw)
    turn = torch.zeros(len(boxes), 3, 3, dtype=torch.float64)
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1], turn[:, 2, 2] = (
        cos,
        -sin,
        sin,
        cos,
        1,
    )
    bev_from_box = se3_from_parts(turn, boxes.center)
    cam_from_box = invert_se3(rig.bev_from_cam)[:, None] @ bev_from_box  # (N, A, 4, 4)
    boxes_px, visible = outlines(cam_from_box, boxes.size, rig.intrinsics, rig.image_size)
    found = []
    for pixels, seen, poses in zip(boxes_px, visible, cam_from_box, strict=True):
        number = int(seen.sum())
        found.append(
            CameraAnnotations(
                pixels[seen].float(),
                annotations.labels[seen],
                quaternion_from_rotation(poses[seen][:, :3, :3]).float(),
                poses[seen][:, :3, 3].float(),
                boxes.size[seen].float(),
                torch.full((number,), UNKNOWN_ATTRIBUTE),
                boxes.velocity[seen].norm(dim=-1).float(),
                torch.full((number,), UNKNOWN_VISIBILITY),
            )
        )
    return tuple(found)


def _matrices(meta: Mapping[str, Any], name: str, count: int) -> Tensor:  # (N, 4, 4) float64
    if name not in meta:
        raise ValueError(
            f"samples must have lidar2img, or cam2img and lidar2cam; got no {name}: name them in "
            "meta_keys of Pack3DDetInputs"
        )
    given = meta[name]
    if len(given) != count:
        raise ValueError(f"{name} must hold one matrix a camera ({count}); got {len(given)}")
    whole = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    for camera, matrix in enumerate(given):
        values = torch.as_tensor(np.asarray(matrix, dtype=np.float64))
        if values.ndim != 2 or values.shape[0] not in (3, 4) or values.shape[1] not in (3, 4):
            raise ValueError(f"{name} must hold matrices of 3 or 4 rows; got {tuple(values.shape)}")
        whole[camera, : values.shape[0], : values.shape[1]] = values
    return whole


def _ego_from_lidar(meta: Mapping[str, Any]) -> Tensor:  # (4, 4) float64
    if "lidar2ego" not in meta:
        return invert_se3(nominal_bev_from_ego("lidar"))
    return _matrices({"lidar2ego": [meta["lidar2ego"]]}, "lidar2ego", 1)[0]


def _image_sizes(meta: Mapping[str, Any], images: Tensor) -> list[tuple[int, int]]:  # N of (H, W)
    """Return the images' sizes without padding; one for all cameras, or one a camera."""
    count, _, height, width = images.shape
    shape = meta.get("img_shape", (height, width))
    shapes = [shape] * count if isinstance(shape[0], (int, np.integer)) else list(shape)
    sizes = [(int(size[0]), int(size[1])) for size in shapes]
    if len(sizes) != count or any(not 0 < h <= height or not 0 < w <= width for h, w in sizes):
        raise ValueError(f"img_shape must be sizes up to {(height, width)}; got {shape}")
    return sizes


def _camera_names(meta: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Return the cameras' names by the paths of their images; none if a path holds none."""
    paths: Sequence[object] = meta.get("img_path", ())
    if isinstance(paths, str) or len(paths) != count:
        return ()
    names = [_channel(str(path)) for path in paths]
    return tuple(names) if all(names) and len(set(names)) == count else ()


def _channel(path: str) -> str:
    parts = path.replace("\\", "/").split("/")
    return next((part for part in parts if part in CAMERA_CHANNELS), "")


def _check_unchanged(meta: Mapping[str, Any]) -> None:
    for name, neutral in _NEUTRAL.items():
        if name not in meta:
            continue
        given: NDArray[np.float64] = np.asarray(meta[name], dtype=np.float64)
        if not np.allclose(given, np.asarray(neutral, dtype=np.float64)):
            raise ValueError(
                f"samples must not be augmented by flips or in 3D; got {name} = {meta[name]!r}: "
                "leave such steps out of the pipeline, or train with bevstack, which has them"
            )
