"""Collation of clips into a batch, padded to the largest images and the largest camera count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor

from bevstack.config import Config
from bevstack.datasets.augmentation.augment import (
    BEVAugmentation,
    ImageAugmentation,
    PixelAugmentation,
)
from bevstack.datasets.preprocess import PreparedFrame, preprocess
from bevstack.geometry import BEVGrid, CameraRig, invert_se3
from bevstack.types import Annotations, Batch, Boxes3D, CameraAnnotations, Clip, Frame
from bevstack.vocabulary import CAMERA_CHANNELS

Value = TypeVar("Value")

# Directions of the six published cameras, in the order of CAMERA_CHANNELS: yaw of the optical axis
# in the ego frame, counter-clockwise from straight ahead (nuScenes, mean of its cars, rounded).
CAMERA_YAW_DEG = (0.0, -57.0, 55.0, 180.0, 109.0, -112.0)


@dataclass(frozen=True)
class PreparedClip:
    """Model input of one clip: a row of a batch."""

    images: Tensor  # (T, N, 3, H, W) float32
    rig: CameraRig  # leading axes (T,), in the current frame's bev frame
    frame_valid: Tensor  # (T,) bool
    camera_slots: Tensor  # (N,) int64
    world_from_bev: Tensor  # (T, 4, 4) float64
    timestamp_us: Tensor  # (T,) int64
    sample_token: str
    scene_token: str
    annotations: Annotations | None
    camera_annotations: tuple[CameraAnnotations, ...] | None  # N, in the current frame's images
    bev_augmentation: Tensor | None  # (3, 3) float64


def prepare_clip(
    clip: Clip,
    config: Config,
    image_augmentation: ImageAugmentation | None = None,
    bev_augmentation: BEVAugmentation | None = None,
    pixel_augmentation: PixelAugmentation | None = None,
) -> PreparedClip:
    """Prepare a clip as model input, with the current frame's annotations inside the grid.

    Camera annotations are those of the current frame's images. Neither the grid nor the BEV
    augmentation applies to them.

    Raises:
        ValueError: the frames differ in their number of cameras, or a clip of several frames lacks
            a pose.
    """
    current = clip.current
    prepared = [
        _prepare(frame, offset, clip, config, image_augmentation, pixel_augmentation)
        for frame, offset in zip(clip.frames, clip.offsets, strict=True)
    ]
    height = max(frame.images.shape[-2] for frame in prepared)
    width = max(frame.images.shape[-1] for frame in prepared)
    identity = torch.eye(4, dtype=torch.float64)
    poses = [None if frame is None else frame.world_from_bev() for frame in clip.frames]
    annotations = current.annotations
    if annotations is not None:
        if bev_augmentation is not None:
            annotations = bev_augmentation.apply(annotations)
        annotations = inside_grid(annotations, config.grid)
    return PreparedClip(
        images=_stacked([pad_images(frame.images, height, width) for frame in prepared]),
        rig=CameraRig.stack([frame.rig for frame in prepared]),
        frame_valid=torch.tensor([frame is not None for frame in clip.frames]),
        camera_slots=camera_slots(current, config.encoder.num_camera_embeddings),
        world_from_bev=torch.stack([identity if pose is None else pose for pose in poses]),
        timestamp_us=torch.tensor([0 if f is None else f.timestamp_us for f in clip.frames]),
        sample_token=current.sample_token,
        scene_token=current.scene_token,
        annotations=annotations,
        camera_annotations=prepared[clip.offsets.index(0)].camera_annotations,
        bev_augmentation=None if bev_augmentation is None else bev_augmentation.matrix(),
    )


def stack_clips(clips: Sequence[PreparedClip]) -> Batch:
    """Stack clips into one batch; pad images with zeros and missing cameras with lost ones.

    Raises:
        ValueError: there is no clip, or only some clips have annotations, camera annotations or an
            augmentation.
    """
    if not clips:
        raise ValueError("clips must hold at least one; got none")
    cameras = max(clip.camera_slots.shape[0] for clip in clips)
    height = max(clip.images.shape[-2] for clip in clips)
    width = max(clip.images.shape[-1] for clip in clips)
    annotations = _all_or_none("annotations", [clip.annotations for clip in clips])
    camera_boxes = _all_or_none("camera_annotations", [clip.camera_annotations for clip in clips])
    augmentation = _all_or_none("bev_augmentation", [clip.bev_augmentation for clip in clips])
    images = [_add_cameras(pad_images(c.images, height, width), cameras, 1) for c in clips]
    return Batch(
        images=_stacked(images),
        rig=CameraRig.stack([_add_lost_cameras(clip.rig, cameras) for clip in clips]),
        frame_valid=torch.stack([clip.frame_valid for clip in clips]),
        camera_slots=torch.stack([_add_cameras(c.camera_slots, cameras, 0) for c in clips]),
        world_from_bev=torch.stack([clip.world_from_bev for clip in clips]),
        timestamp_us=torch.stack([clip.timestamp_us for clip in clips]),
        sample_tokens=tuple(clip.sample_token for clip in clips),
        scene_tokens=tuple(clip.scene_token for clip in clips),
        annotations=None if annotations is None else _share_tensors(annotations),
        camera_annotations=None
        if camera_boxes is None
        else _share_camera_tensors(camera_boxes, cameras),
        bev_augmentation=None if augmentation is None else torch.stack(augmentation),
    )


def with_lost_cameras(clip: PreparedClip, cameras: int) -> PreparedClip:
    """Return a clip without annotations, completed with lost cameras up to a number of them."""
    return replace(
        clip,
        images=_add_cameras(clip.images, cameras, 1),
        rig=_add_lost_cameras(clip.rig, cameras),
        camera_slots=_add_cameras(clip.camera_slots, cameras, 0),
    )


def camera_slots(frame: Frame, num_slots: int) -> Tensor:  # (N,) int64
    """Choose the learned camera embedding (the slot) of each camera.

    With the six published slots, a camera of a published role takes the slot of its role. Every
    other camera takes the slot of the nearest direction. With another number of slots, their
    directions are spread evenly, clockwise from straight ahead, and roles do not count.
    """
    published = num_slots == len(CAMERA_CHANNELS)
    evenly = [-360.0 * slot / num_slots for slot in range(num_slots)]
    yaws = torch.deg2rad(torch.tensor(CAMERA_YAW_DEG if published else evenly, dtype=torch.float64))
    axis = frame.ego_from_cam[:, :2, 2]  # horizontal part of the optical axis
    difference = torch.atan2(axis[:, 1], axis[:, 0])[:, None] - yaws
    slots = torch.cos(difference).argmax(1)
    for camera, name in enumerate(frame.camera_names):
        if published and name in CAMERA_CHANNELS:
            slots[camera] = CAMERA_CHANNELS.index(name)
    return slots


def inside_grid(annotations: Annotations, grid: BEVGrid) -> Annotations:
    """Return the annotations whose centre lies strictly inside the grid, ignoring height."""
    return annotations[grid.contains(annotations.boxes.center)]


def pad_images(
    images: Tensor,  # (..., H, W)
    height: int,
    width: int,
) -> Tensor:  # (..., height, width)
    """Pad images with zeros on the right and at the bottom."""
    if tuple(images.shape[-2:]) == (height, width):
        return images
    padded = images.new_zeros(*images.shape[:-2], height, width)
    padded[..., : images.shape[-2], : images.shape[-1]] = images
    return padded


def _prepare(
    frame: Frame | None,
    offset: int,
    clip: Clip,
    config: Config,
    augmentation: ImageAugmentation | None,
    pixel_augmentation: PixelAugmentation | None,
) -> PreparedFrame:
    """Prepare a frame, its rig in the current bev frame; a missing frame has lost cameras only."""
    current = clip.current
    if frame is None:
        cameras = current.num_cameras
        lost = _add_lost_cameras(current.rig()[:0], cameras)
        return PreparedFrame(torch.zeros(cameras, 3, 1, 1), lost)
    pixels = pixel_augmentation
    distortions = None
    if pixels is not None:
        distortions = [pixels.photometric(offset, n) for n in range(frame.num_cameras)]
    prepared = preprocess(frame, config.images, augmentation, distortions)
    if frame is current:
        height, width = (int(side) for side in prepared.images.shape[-2:])
        mask = None if pixels is None else pixels.grid_mask((height, width))
        if mask is None:
            return prepared
        return replace(prepared, images=mask.blank_(prepared.images))
    world_from_current, world_from_frame = current.world_from_bev(), frame.world_from_bev()
    if world_from_current is None or world_from_frame is None:
        raise ValueError("world_from_ego must be given for every frame of a clip; got none")
    if frame.num_cameras != current.num_cameras:
        raise ValueError(
            f"frames of a clip must have the same number of cameras; got {frame.num_cameras} in "
            f"{frame.sample_token!r} and {current.num_cameras} in {current.sample_token!r}"
        )
    current_from_frame = invert_se3(world_from_current) @ world_from_frame
    return replace(prepared, rig=prepared.rig.moved(current_from_frame))


def _stacked(images: Sequence[Tensor]) -> Tensor:
    """Stack images; a single one is not copied, since a copy costs as much as a resize."""
    return images[0][None] if len(images) == 1 else torch.stack(tuple(images))


def _share_tensors(annotations: Sequence[Annotations]) -> tuple[Annotations, ...]:
    """Return the same annotations as slices of shared tensors.

    Every tensor from a worker process keeps a file descriptor open, of which about a thousand are
    allowed.
    """
    joint = Annotations(
        Boxes3D.concatenate([sample.boxes for sample in annotations]),
        torch.cat([sample.labels for sample in annotations]),
        torch.cat([sample.num_points for sample in annotations]),
    )
    ends = list(accumulate(map(len, annotations)))
    return tuple(joint[end - len(a) : end] for a, end in zip(annotations, ends, strict=True))


def _share_camera_tensors(
    annotations: Sequence[Sequence[CameraAnnotations]],  # B x up to N
    cameras: int,  # N
) -> tuple[tuple[CameraAnnotations, ...], ...]:  # B x N
    """Return camera annotations as slices of shared tensors; missing cameras have no boxes."""
    none = CameraAnnotations.empty()
    padded = [(*sample, *[none] * (cameras - len(sample))) for sample in annotations]
    flat = [camera for sample in padded for camera in sample]
    joint = CameraAnnotations(
        *(torch.cat([getattr(a, field.name) for a in flat]) for field in fields(CameraAnnotations))
    )
    ends = list(accumulate(map(len, flat)))
    parts = [joint[end - len(a) : end] for a, end in zip(flat, ends, strict=True)]
    return tuple(tuple(parts[first : first + cameras]) for first in range(0, len(parts), cameras))


def _add_cameras(
    tensor: Tensor,
    cameras: int,
    axis: int,
) -> Tensor:
    """Pad a tensor with zeros along its camera axis, up to ``cameras``."""
    missing = cameras - tensor.shape[axis]
    shape = (*tensor.shape[:axis], missing, *tensor.shape[axis + 1 :])
    return torch.cat((tensor, tensor.new_zeros(shape)), axis) if missing else tensor


def _add_lost_cameras(rig: CameraRig, cameras: int) -> CameraRig:
    """Pad a rig to ``cameras`` with lost cameras of identity calibration and one pixel."""
    missing = cameras - rig.num_cameras
    leading = tuple(rig.camera_mask.shape[:-1])
    eye = torch.eye(4, dtype=rig.intrinsics.dtype)
    return CameraRig(
        torch.cat((rig.intrinsics, eye[:3, :3].expand(*leading, missing, 3, 3)), -3),
        torch.cat((rig.bev_from_cam, eye.expand(*leading, missing, 4, 4)), -3),
        torch.cat((rig.image_size, rig.image_size.new_ones(*leading, missing, 2)), -2),
        torch.cat((rig.camera_mask, rig.camera_mask.new_zeros(*leading, missing)), -1),
    )


def _all_or_none(name: str, values: Sequence[Value | None]) -> tuple[Value, ...] | None:
    given = tuple(value for value in values if value is not None)
    if given and len(given) != len(values):
        raise ValueError(f"{name} must be given for every clip or for none; got {len(given)}")
    return given or None
