"""Camera images to network input: crop the sky, resize, mirror, normalise, pad; the rig follows.

BEVFormer v2 specification, sections 3.2 and 3.3, with these differences: every image is scaled by
the largest factor that fits the wanted size, so cameras may differ in size; values are normalised
by mean and standard deviation in the configured channel order; mirroring is a change of the
intrinsics, where the released code mirrors features back. True boxes in the images follow them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from bevstack.config import AugmentationConfig, ImageConfig
from bevstack.datasets.augmentation.augment import ImageAugmentation
from bevstack.datasets.augmentation.photometric import PhotometricDistortion
from bevstack.datasets.images import reduction_for
from bevstack.geometry import CameraRig
from bevstack.types import CameraAnnotations, Frame


@dataclass(frozen=True)
class PreparedFrame:
    """The network input of one frame."""

    images: Tensor  # (N, 3, H, W) float32, normalised, zero where padded and for lost cameras
    rig: CameraRig  # leading axes (), in the frame's bev frame; image_size is without padding
    # N, boxes in these images, clipped to them; none for lost cameras
    camera_annotations: tuple[CameraAnnotations, ...] | None = None


def preprocess(
    frame: Frame,
    config: ImageConfig,
    augmentation: ImageAugmentation | None = None,
    distortions: Sequence[PhotometricDistortion | None] | None = None,  # N
) -> PreparedFrame:
    """The images of a frame as one tensor, and the rig that belongs to them.

    From each image the bottom ``keep_bottom`` of the rows is kept and scaled by the largest factor
    that fits ``config.size`` times the augmentation's factor; all are padded right and below to
    the largest of them, rounded up to a multiple of ``pad_to``. Colours are distorted before the
    images are resized.
    """
    augmentation = augmentation or ImageAugmentation()
    distortions = [None] * frame.num_cameras if distortions is None else distortions
    if len(distortions) != frame.num_cameras:
        raise ValueError(
            f"distortions must be one a camera: {frame.num_cameras}; got {len(distortions)}"
        )
    rig = frame.rig()
    images: list[Tensor | None] = []  # (H, W, 3) uint8
    rigs: list[CameraRig] = []
    for camera, image in enumerate(frame.images):
        if image is None or not bool(rig.camera_mask[camera]):
            images.append(None)
            rigs.append(rig[camera : camera + 1])
            continue
        own = rig[camera : camera + 1]
        pixels, own = _transform(image, own, config, augmentation, distortions[camera])
        images.append(pixels)
        rigs.append(own)
    changed = _concatenate(rigs)
    truth = frame.camera_annotations
    return PreparedFrame(
        _normalised(images, config), changed, truth and _follow(truth, rig, changed)
    )


def target_size(
    kept: tuple[int, int],  # (H, W) pixels of the kept part of an image
    config: ImageConfig,
    factor: float = 1.0,  # of the augmentation
) -> tuple[int, int]:
    """(H, W) of an image after resizing: the largest of its shape within the wanted size."""
    height, width = kept
    scale = _scale(kept, config, factor)
    return max(1, round(height * scale)), max(1, round(width * scale))


def decoding_reduction(
    size: tuple[int, int],  # (H, W) of the image file
    config: ImageConfig,
    augmentation: AugmentationConfig,
) -> int:
    """By how much an image file may be reduced while it is decoded, for this preprocessing.

    The largest of 1, 2, 4 and 8 by which it shrinks all of its pixels in any case, under the
    largest factor that training draws too: training and prediction decode alike. What comes out
    has the size and, to the last bit, the rig of a whole decoding; see ``reduction_for`` for the
    pixels.
    """
    if min(size) < 1:
        return 1  # no image has that size: reading it will say so
    kept = _kept_rows(size[0], config)
    scale = _scale((kept, size[1]), config, max(1.0, augmentation.resize[1]))
    return reduction_for(size, scale, top=size[0] - kept)


def resize_image(
    image: Tensor,  # (H, W, 3) uint8
    size: tuple[int, int],  # (H, W)
) -> Tensor:  # (H, W, 3) uint8
    """Bicubic interpolation with a = -0.5 and antialiasing, the default filter of Pillow."""
    if tuple(image.shape[:2]) == size:
        return image
    # Channels last in memory and uint8 throughout: torch's vectorised path, ten times the speed.
    planes = image.permute(2, 0, 1)[None]
    return interpolate(planes, size, mode="bicubic", antialias=True)[0].permute(1, 2, 0)


def _kept_rows(height: int, config: ImageConfig) -> int:
    return max(1, round(height * config.keep_bottom))


def _scale(kept: tuple[int, int], config: ImageConfig, factor: float) -> float:
    """The largest that fits the wanted size times a factor."""
    return min(wanted * factor / side for wanted, side in zip(config.size, kept, strict=True))


def _transform(
    image: NDArray[np.uint8],  # (H, W, 3)
    rig: CameraRig,  # of this camera alone
    config: ImageConfig,
    augmentation: ImageAugmentation,
    distortion: PhotometricDistortion | None,
) -> tuple[Tensor, CameraRig]:
    height, width = image.shape[:2]
    kept = _kept_rows(height, config)
    top = height - kept
    size = target_size((kept, width), config, augmentation.resize)
    image = np.ascontiguousarray(image[top:])
    if distortion is not None:
        image = distortion.apply(image)
    pixels = resize_image(torch.from_numpy(image), size)
    rig = rig.cropped(0, top, (kept, width)).resized(size)
    if augmentation.flip:
        return pixels.flip(1), rig.flipped()
    return pixels, rig


def _follow(
    truth: Sequence[CameraAnnotations],  # N
    before: CameraRig,
    after: CameraRig,
) -> tuple[CameraAnnotations, ...]:  # N
    """Boxes in the changed images: moved as the intrinsics say, clipped, none left without area.

    Only what is seen follows. Places and attitudes are those of the real camera, mirrored or not.
    """
    changes = after.intrinsics @ torch.linalg.inv(before.intrinsics)  # (N, 3, 3)
    bounds = after.image_size.flip(-1)  # (N, 2) width, height
    followed = []
    for boxes, change, bound, works in zip(truth, changes, bounds, after.camera_mask, strict=True):
        if not len(boxes) or not bool(works):
            followed.append(CameraAnnotations.empty())
            continue
        sides = boxes.boxes_px.to(change.dtype).unflatten(1, (2, 2))  # (A, 2, 2)
        sides = sides * change.diagonal()[:2] + change[:2, 2]
        sides = torch.minimum(sides.clamp(min=0), bound.to(change.dtype))
        low, high = sides.amin(1), sides.amax(1)  # left and right change places in a mirror
        kept = (high > low).all(-1)
        moved = torch.cat((low, high), -1).to(boxes.boxes_px.dtype)
        followed.append(replace(boxes, boxes_px=moved)[kept])
    return tuple(followed)


def _normalised(
    images: Sequence[Tensor | None],  # N of (H, W, 3) uint8 RGB
    config: ImageConfig,
) -> Tensor:  # (N, 3, H, W) float32
    """The images side by side, padded right and below to one size."""
    sizes = [tuple(image.shape[:2]) for image in images if image is not None] or [(1, 1)]
    height, width = (
        math.ceil(max(size[axis] for size in sizes) / config.pad_to) * config.pad_to
        for axis in (0, 1)
    )
    # NumPy asks for huge pages, torch does not: for 74 MB touched the first time 11 ms, not 45.
    planes = torch.from_numpy(np.empty((len(images), 3, height, width), dtype=np.float32))
    order = (0, 1, 2) if config.channel_order == "rgb" else (2, 1, 0)
    for of_camera, image in zip(planes, images, strict=True):
        rows, columns = (0, 0) if image is None else image.shape[:2]
        of_camera[:, rows:] = 0
        of_camera[:, :rows, columns:] = 0
        if image is None:
            continue
        pixels = np.ascontiguousarray(image.numpy())
        for plane, channel, mean, std in zip(
            of_camera, order, config.mean, config.std, strict=True
        ):  # one by one and in place: half the time, for the values stay in the cache
            values = torch.from_numpy(cv2.extractChannel(pixels, channel))
            plane[:rows, :columns].copy_(values).sub_(mean).div_(std)
    return planes


def _concatenate(rigs: list[CameraRig]) -> CameraRig:
    return CameraRig(
        torch.cat([rig.intrinsics for rig in rigs]),
        torch.cat([rig.bev_from_cam for rig in rigs]),
        torch.cat([rig.image_size for rig in rigs]),
        torch.cat([rig.camera_mask for rig in rigs]),
    )
