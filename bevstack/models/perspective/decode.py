"""From what the perspective head says to 3D boxes in the camera's frame, and to detections.

Camera axes are x right, y down, z forward. Letters: I images, P locations, K classes, D detections
an image, M rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config.perspective import QUATERNION, YAW, PerspectiveConfig
from bevstack.geometry import quaternion_from_rotation
from bevstack.models.layers.nms import keep_best
from bevstack.models.perspective.head import PerspectiveOutput
from bevstack.shapes import expect_shape
from bevstack.types.perspective import CameraBoxes, pixel_rays


@dataclass(frozen=True)
class RawBoxes:
    """What the head says of 3D boxes, of one class each; the fields of ``PerspectiveOutput``."""

    quaternion: Tensor  # (..., 4); of attitude "yaw" the first two are its cosine and sine
    center_offset_px: Tensor  # (..., 2)
    depth: Tensor  # (...,)
    size: Tensor  # (..., 3)


@dataclass(frozen=True)
class PerspectiveDetections:
    """Detections of every image, best first; rows beyond an image's own are not ``valid``."""

    boxes: CameraBoxes  # (I, D)
    boxes_px: Tensor  # (I, D, 4) (left, top, right, bottom), not clipped to the image
    scores: Tensor  # (I, D) image score times (a power of) the 3D confidence, 0 where not valid
    image_scores: Tensor  # (I, D) root of class probability times centerness
    labels: Tensor  # (I, D) int64
    attributes: Tensor  # (I, D) int64, the likeliest
    speed_mps: Tensor  # (I, D)
    levels: Tensor  # (I, D) int64, of the pyramid
    valid: Tensor  # (I, D) bool


def invert_intrinsics(
    intrinsics: Tensor,  # (..., 3, 3) pixels
) -> Tensor:  # (..., 3, 3) float32
    """``cam_from_image``, inverted in float64."""
    expect_shape("intrinsics", intrinsics, ("...", 3, 3))
    return torch.linalg.inv(intrinsics.double()).float()


def egocentric(
    quaternion: Tensor,  # (..., 4) wxyz, unit, as seen along the ray
    ray: Tensor,  # (..., 3) camera frame, any length, not along y
) -> Tensor:  # (..., 4) wxyz, unit, cam_from_object
    """Attitude in the camera's frame of what was told relative to the ray it is seen along.

    An object that looks the same wherever it stands in the image has the same quaternion along its
    ray (allocentric). The frame of the ray has z along it, y as near to the camera's y (down) as
    can be, and x to the right.
    """
    z = functional.normalize(ray, dim=-1)
    down = torch.zeros_like(z)
    down[..., 1] = 1
    y = functional.normalize(down - z[..., 1:2] * z, dim=-1)
    x = torch.linalg.cross(y, z)
    cam_from_ray = quaternion_from_rotation(torch.stack((x, y, z), -1))
    return _product(cam_from_ray, quaternion)


def upright(
    yaw_rad: Tensor,  # (...) from the ray to the way the object points, about the camera's y
    ray: Tensor,  # (..., 3) camera frame, any length, not along y
) -> Tensor:  # (..., 4) wxyz, unit, cam_from_object
    """Attitude in the camera's frame of an object that stands upright in it.

    An object that points away along the ray has yaw 0, one that points to the right of it 90
    degrees. Only the ray's part across the camera's y axis (down) counts.
    """
    half = (yaw_rad + torch.atan2(ray[..., 0], ray[..., 2])) / 2
    nought = torch.zeros_like(half)
    about_down = torch.stack((half.cos(), nought, half.sin(), nought), -1)
    ahead = half.new_tensor((0.5, 0.5, -0.5, 0.5))  # x forward, y left, z up to z, -x, -y
    return _product(about_down, ahead.expand_as(about_down))


def decode_boxes(
    raw: RawBoxes,
    labels: Tensor,  # (...) int64
    locations_px: Tensor,  # (..., 2)
    cam_from_image: Tensor,  # (..., 3, 3)
    config: PerspectiveConfig,
) -> CameraBoxes:
    """3D boxes in the camera frame; gradients reach everything said (v2 specification, 11.5).

    The attitude depends on where the centre is seen, through the ray. A quaternion of no length
    counts as no rotation along the ray. Depths outside ``config.depth_range_m`` are clamped to it
    and pass no gradient.
    """
    center = locations_px + raw.center_offset_px
    focal = torch.stack((cam_from_image[..., 0, 0], cam_from_image[..., 1, 1]), -1)
    scale = config.focal_factor_px * torch.linalg.vector_norm(focal, dim=-1)
    depth = raw.depth / scale if config.changes.ground_z_m is None else raw.depth
    near, far = config.depth_range_m
    canonical = raw.size.new_tensor(config.canonical_size_m)[labels]  # (..., 3)
    said = raw.quaternion
    said = said if config.changes.attitude == QUATERNION else said[..., :2]
    nothing = (said == 0).all(-1, keepdim=True)
    said = torch.where(nothing, torch.eye(1, said.shape[-1]).to(said)[0], said)
    ray = pixel_rays(center, cam_from_image)
    if config.changes.attitude == YAW:
        attitude = upright(torch.atan2(said[..., 1], said[..., 0]), ray)
    else:
        attitude = egocentric(functional.normalize(said, dim=-1), ray)
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
    """What the head says of one class at each of several locations."""
    return RawBoxes(
        output.quaternion[image, location, :, label],
        output.center_offset_px[image, location, :, label],
        output.depth[image, location, label],
        output.size[image, location, :, label],
    )


@torch.no_grad()
def detect(
    output: PerspectiveOutput,
    intrinsics: Tensor,  # (I, 3, 3) pixels, of the images as the network saw them
    config: PerspectiveConfig,
) -> PerspectiveDetections:
    """The best boxes of every image after non-maximum suppression within each class.

    Of each level the ``max_candidates`` best (location, class) pairs above the threshold are taken,
    by class probability times centerness; suppression compares boxes in the image, the higher
    product of image score and 3D confidence winning. Of those that are left the
    ``max_detections`` of highest image score are given, in the order of their scores: DD3D's rule.
    D is ``max_detections``, or all candidates where they are fewer. No gradients.
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
        count=config.max_detections,
    )  # (I, D), -1 where there is none
    kept, index = index >= 0, index.clamp(min=0)
    at = (image[:, : index.shape[1]], location.gather(1, index), label.gather(1, index))
    cam_from_image = invert_intrinsics(intrinsics).to(output.logits.device)[at[0]]
    raw = raw_boxes_at(output, *at)
    return PerspectiveDetections(
        boxes=decode_boxes(raw, at[2], output.locations_px[at[1]], cam_from_image, config),
        boxes_px=_boxes_px(output.locations_px[at[1]], output.ltrb_px[at[:2]]),
        scores=scores.gather(1, index).masked_fill(~kept, 0.0),
        image_scores=image_scores.gather(1, index).masked_fill(~kept, 0.0),
        labels=at[2],
        attributes=output.attributes[at[:2]].argmax(-1),
        speed_mps=output.speed_mps[at[:2]].clamp(min=0),
        levels=output.levels[at[1]],
        valid=kept,
    )


def _candidates(
    output: PerspectiveOutput, config: PerspectiveConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Strength, location and class of the strongest pairs of each level, (I, D') each."""
    strength = output.logits.sigmoid() * output.centerness.sigmoid()[..., None]  # (I, P, K)
    classes = strength.shape[-1]
    values, pairs, start = [], [], 0
    for size, of_level in zip(
        output.level_sizes, strength.split(output.level_sizes, 1), strict=True
    ):
        best = of_level.flatten(1).topk(min(config.max_candidates, size * classes), dim=1)
        values.append(best.values)
        pairs.append(best.indices + start * classes)
        start += size
    pair = torch.cat(pairs, 1)
    return torch.cat(values, 1), pair // classes, pair % classes


def _boxes_px(location: Tensor, ltrb: Tensor) -> Tensor:  # (..., 4)
    return torch.cat((location - ltrb[..., :2], location + ltrb[..., 2:]), -1)


def _product(first: Tensor, second: Tensor) -> Tensor:  # (..., 4)
    """Hamilton product of wxyz quaternions: the rotation ``second``, then ``first``."""
    a, u = first[..., :1], first[..., 1:]
    b, v = second[..., :1], second[..., 1:]
    scalar = a * b - (u * v).sum(-1, keepdim=True)
    return torch.cat((scalar, a * v + b * u + torch.linalg.cross(u, v)), -1)
