"""Decoding of the perspective head's output to 3D boxes in the camera's frame and to detections.

Camera axes are x right, y down, z forward. Letters: I images, P locations, K classes, D detections
an image, M rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config.perspective import QUATERNION, YAW, PerspectiveConfig
from bevstack.geometry import constant, quaternion_from_rotation
from bevstack.models.layers.nms import keep_best
from bevstack.models.layers.ranking import best_first
from bevstack.models.layers.sizes import Sizes
from bevstack.models.perspective.head import PerspectiveOutput
from bevstack.shapes import expect_shape
from bevstack.types.perspective import CameraBoxes, pixel_rays


@dataclass(frozen=True)
class RawBoxes:
    """Raw predictions of 3D boxes, each for one class: fields of ``PerspectiveOutput``."""

    quaternion: Tensor  # (..., 4); for attitude "yaw" the first two are its cosine and sine
    center_offset_px: Tensor  # (..., 2)
    depth: Tensor  # (...,)
    size: Tensor  # (..., 3)


@dataclass(frozen=True)
class PerspectiveDetections:
    """Detections of every image, best first; rows beyond the detections are not ``valid``."""

    boxes: CameraBoxes  # (I, D)
    boxes_px: Tensor  # (I, D, 4) (left, top, right, bottom), not clipped to the image
    scores: Tensor  # (I, D) image score times (a power of) the 3D confidence, 0 where not valid
    image_scores: Tensor  # (I, D) root of class probability times centerness
    labels: Tensor  # (I, D) int64
    attributes: Tensor  # (I, D) int64, the most likely one
    speed_mps: Tensor  # (I, D)
    levels: Tensor  # (I, D) int64, index into the pyramid
    valid: Tensor  # (I, D) bool


def invert_intrinsics(
    intrinsics: Tensor,  # (..., 3, 3) pixels
) -> Tensor:  # (..., 3, 3) float32
    """Return ``cam_from_image``, inverted in float64.

    Raises:
        ValueError: ``intrinsics`` is not (..., 3, 3).
    """
    expect_shape("intrinsics", intrinsics, ("...", 3, 3))
    cam_from_image: Tensor = torch.linalg.inv_ex(intrinsics.double()).inverse  # inv would wait
    return cam_from_image.float()


def egocentric_from_allocentric(
    quaternion: Tensor,  # (..., 4) wxyz, unit, ray_from_object
    ray: Tensor,  # (..., 3) camera frame, any length, not along y
) -> Tensor:  # (..., 4) wxyz, unit, cam_from_object
    """Convert attitudes from the frame of the ray to the object (allocentric) to the camera's.

    Objects that look the same at different places in the image have the same allocentric
    quaternion. The frame of the ray has z along it, y as close as possible to the camera's y
    (down), and x to the right.
    """
    z = functional.normalize(ray, dim=-1)
    down = torch.zeros_like(z)
    down[..., 1].fill_(1)
    y = functional.normalize(down - z[..., 1:2] * z, dim=-1)
    x = torch.linalg.cross(y, z)
    cam_from_ray = quaternion_from_rotation(torch.stack((x, y, z), -1))
    return _product(cam_from_ray, quaternion)


def egocentric_from_yaw(
    yaw_rad: Tensor,  # (...) from the ray to the object's heading, about the camera's y
    ray: Tensor,  # (..., 3) camera frame, any length, not along y
) -> Tensor:  # (..., 4) wxyz, unit, cam_from_object
    """Return the attitude of objects whose z axis is opposite to the camera's y axis (down).

    An object that points away along the ray has yaw 0, one that points to the right of it 90
    degrees. Only the ray's components across the camera's y axis are used.
    """
    half = (yaw_rad + torch.atan2(ray[..., 0], ray[..., 2])) / 2
    zero = torch.zeros_like(half)
    about_down = torch.stack((half.cos(), zero, half.sin(), zero), -1)
    ahead = constant(half, (0.5, 0.5, -0.5, 0.5))  # x forward, y left, z up to z, -x, -y
    return _product(about_down, ahead.expand_as(about_down))


def decode_boxes(
    raw: RawBoxes,
    labels: Tensor,  # (...) int64
    locations_px: Tensor,  # (..., 2)
    cam_from_image: Tensor,  # (..., 3, 3)
    config: PerspectiveConfig,
) -> CameraBoxes:
    """Decode 3D boxes in the camera frame, with gradients to all of ``raw`` (v2 spec, 11.5).

    The attitude depends on the projected centre, through the ray. A quaternion of length 0 counts
    as no rotation relative to the ray. Depths outside ``config.depth_range_m`` are clamped to it
    and pass no gradient.
    """
    center = locations_px + raw.center_offset_px
    focal = torch.stack((cam_from_image[..., 0, 0], cam_from_image[..., 1, 1]), -1)
    scale = config.focal_factor_px * torch.linalg.vector_norm(focal, dim=-1)
    depth = raw.depth / scale if config.changes.ground_z_m is None else raw.depth
    near, far = config.depth_range_m
    sizes_m = [size for sizes in config.canonical_size_m for size in sizes]
    canonical = constant(raw.size, sizes_m).view(-1, 3)[labels]  # (..., 3)
    code = raw.quaternion
    code = code if config.changes.attitude == QUATERNION else code[..., :2]
    undefined = (code == 0).all(-1, keepdim=True)
    no_rotation = torch.eye(1, code.shape[-1], dtype=code.dtype, device=code.device)[0]
    code = torch.where(undefined, no_rotation, code)
    ray = pixel_rays(center, cam_from_image)
    if config.changes.attitude == YAW:
        attitude = egocentric_from_yaw(torch.atan2(code[..., 1], code[..., 0]), ray)
    else:
        attitude = egocentric_from_allocentric(functional.normalize(code, dim=-1), ray)
    return CameraBoxes(
        attitude,
        center,
        depth.clamp(near, far),
        (raw.size.tanh() + 1) * canonical,
        cam_from_image,
    )


def raw_boxes_at(
    output: PerspectiveOutput,
    image: Tensor,  # (M,) int64
    location: Tensor,  # (M,) int64
    label: Tensor,  # (M,) int64
) -> RawBoxes:  # (M,)
    """Return the raw predictions of one class at each of M locations."""
    return RawBoxes(
        output.quaternion[image, location, :, label],
        output.center_offset_px[image, location, :, label],
        output.depth[image, location, label],
        output.size[image, location, :, label],
    )


@torch.no_grad()
def detect(
    output: PerspectiveOutput,
    intrinsics: Tensor,  # (I, 3, 3) pixels, of the images that ``output`` refers to
    config: PerspectiveConfig,
    sizes: Sizes | None = None,
    *,
    max_detections: int | None = None,  # None: the configured number
) -> PerspectiveDetections:
    """Return the best boxes of every image after non-maximum suppression within each class.

    The steps are DD3D's:

    1. Take the ``max_candidates`` (location, class) pairs of each level with the highest class
       probability times centerness, if that is above ``score_threshold``.
    2. Suppress boxes that overlap in the image; the one with the higher score (image score times
       3D confidence) is kept.
    3. Keep the ``max_detections`` boxes with the highest image scores, sorted by score.

    D is ``max_detections``, or the number of candidates if that is smaller. No gradients.

    Raises:
        ValueError: ``intrinsics`` is not (I, 3, 3).
    """
    expect_shape("intrinsics", intrinsics, (output.logits.shape[0], 3, 3))
    strength, location, label = _candidates(output, config)  # (I, D') each
    valid = strength > config.score_threshold
    image = torch.arange(strength.shape[0], device=strength.device)[:, None].expand_as(label)
    image_scores = strength.sqrt()
    confidence = output.confidence[image, location, label].sigmoid()
    scores = image_scores * confidence.pow(config.changes.confidence_power)
    boxes_px = _boxes_px(output.locations_px[location], output.ltrb_px[image, location])
    index = keep_best(
        boxes_px,
        scores.masked_fill(~valid, 0.0),
        image_scores,
        labels=label,
        valid=valid,
        iou=config.nms_iou,
        count=config.max_detections if max_detections is None else max_detections,
        sizes=sizes,
    )  # (I, D), -1 where there is none
    valid_rows, index = index >= 0, index.clamp(min=0)
    at = (image[:, : index.shape[1]], location.gather(1, index), label.gather(1, index))
    cam_from_image = invert_intrinsics(intrinsics).to(output.logits.device)[at[0]]
    raw = raw_boxes_at(output, *at)
    return PerspectiveDetections(
        boxes=decode_boxes(raw, at[2], output.locations_px[at[1]], cam_from_image, config),
        boxes_px=_boxes_px(output.locations_px[at[1]], output.ltrb_px[at[:2]]),
        scores=scores.gather(1, index).masked_fill(~valid_rows, 0.0),
        image_scores=image_scores.gather(1, index).masked_fill(~valid_rows, 0.0),
        labels=at[2],
        attributes=output.attributes[at[:2]].argmax(-1),
        speed_mps=output.speed_mps[at[:2]].clamp(min=0),
        levels=output.levels[at[1]],
        valid=valid_rows,
    )


def _candidates(
    output: PerspectiveOutput, config: PerspectiveConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Return strength, location and class of each level's strongest pairs, (I, D') each.

    Strength is class probability times centerness.
    """
    strength = output.logits.sigmoid() * output.centerness.sigmoid()[..., None]  # (I, P, K)
    classes = strength.shape[-1]
    values, pairs, start = [], [], 0
    levels = torch.split(strength, list(output.level_sizes), 1)
    for size, level in zip(output.level_sizes, levels, strict=True):
        best, index = best_first(level.flatten(1), config.max_candidates)
        values.append(best)
        pairs.append(index + start * classes)
        start += size
    pair = torch.cat(pairs, 1)
    return torch.cat(values, 1), pair // classes, pair % classes


def _boxes_px(location: Tensor, ltrb: Tensor) -> Tensor:  # (..., 4)
    return torch.cat((location - ltrb[..., :2], location + ltrb[..., 2:]), -1)


def _product(first: Tensor, second: Tensor) -> Tensor:  # (..., 4)
    """Return the Hamilton product of wxyz quaternions: rotation by ``second``, then ``first``."""
    a, u = first[..., :1], first[..., 1:]
    b, v = second[..., :1], second[..., 1:]
    scalar = a * b - (u * v).sum(-1, keepdim=True)
    return torch.cat((scalar, a * v + b * u + torch.linalg.cross(u, v)), -1)
