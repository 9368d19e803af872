"""Training-time augmentation: of images (IDA), of the bird's-eye view (BDA), of pixels, of cameras.

BEVFormer v2 specification, section 3. One draw of IDA and BDA serves all cameras and all frames of
a sample; colours are drawn for every image by itself, and a grid mask for all cameras of the
current frame; a camera that is lost is lost in all frames. All of it depends on (seed, epoch,
sample index) alone, so that neither the number of workers nor a restart changes it.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bevstack.config import AugmentationConfig
from bevstack.datasets.augmentation.grid_mask import GridMask, draw_grid_mask
from bevstack.datasets.augmentation.photometric import PhotometricDistortion, draw_photometric
from bevstack.types import Annotations, Boxes3D, Clip, Frame


@dataclass(frozen=True, kw_only=True)
class ImageAugmentation:
    """What is done to every image of a sample; the defaults do nothing."""

    resize: float = 1.0  # factor on the configured image size
    flip: bool = False  # mirror left to right


@dataclass(frozen=True, kw_only=True)
class BEVAugmentation:
    """Rotation, then scaling, then mirroring of space about the bev frame's origin.

    The images and the rig stay as they are: the model resamples its BEV map by ``matrix``.
    """

    rotation_rad: float = 0.0  # about z, counter-clockwise
    scale: float = 1.0
    flip_x: bool = False  # x -> -x
    flip_y: bool = False  # y -> -y

    def matrix(self) -> Tensor:  # (3, 3) float64
        """augmented_bev_from_bev."""
        cos, sin = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        rotation = torch.tensor(((cos, -sin, 0), (sin, cos, 0), (0, 0, 1)), dtype=torch.float64)
        signs = torch.tensor((1 - 2 * self.flip_x, 1 - 2 * self.flip_y, 1), dtype=torch.float64)
        return self.scale * signs[:, None] * rotation

    def apply(self, annotations: Annotations) -> Annotations:
        """The annotations in augmented space: sizes and velocities scale with it."""
        matrix = self.matrix()
        boxes = annotations.boxes
        heading = torch.stack((torch.cos(boxes.yaw), torch.sin(boxes.yaw)), -1).to(matrix.dtype)
        heading = heading @ matrix[:2, :2].T
        augmented = Boxes3D(
            center=(boxes.center.to(matrix.dtype) @ matrix.T).to(boxes.center.dtype),
            size=boxes.size * self.scale,
            yaw=torch.atan2(heading[:, 1], heading[:, 0]).to(boxes.yaw.dtype),
            velocity=(boxes.velocity.to(matrix.dtype) @ matrix[:2, :2].T).to(boxes.velocity.dtype),
        )
        return Annotations(augmented, annotations.labels, annotations.num_points)


@dataclass(frozen=True, kw_only=True)
class PixelAugmentation:
    """What is done to the pixels of one sample in one epoch, where nothing moves.

    Every image and every kind draws from a stream of its own: switching one on, losing a camera
    or asking for other frames leaves the other draws as they are.
    """

    config: AugmentationConfig
    seed: int
    epoch: int
    index: int  # of the sample in its data set

    def photometric(self, offset: int, camera: int) -> PhotometricDistortion | None:
        """The distortion of the colours of one camera's image in the frame at an offset."""
        if not self.config.photometric:
            return None
        return draw_photometric(self._stream("photometric", offset, camera))

    def grid_mask(
        self,
        size: tuple[int, int],  # (H, W) of the padded images
    ) -> GridMask | None:
        """The mask of all cameras of the current frame."""
        if not self.config.grid_mask:
            return None
        return draw_grid_mask(self._stream("grid_mask"), size, self.config.grid_mask)

    def lost_camera(self, num_cameras: int) -> int | None:
        """The camera that the sample goes without, each as likely."""
        if not self.config.camera_dropout:
            return None
        stream = self._stream("camera_dropout")
        is_lost, camera = stream.uniform() < self.config.camera_dropout, stream.uniform()
        return int(camera * num_cameras) if is_lost else None

    def _stream(self, name: str, *place: int) -> np.random.Generator:
        key = (zlib.crc32(name.encode()), *(2 * abs(part) + (part < 0) for part in place))
        entropy = (self.seed, self.epoch, self.index)
        return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=key))


def lose_camera(clip: Clip, camera: int) -> Clip:
    """The clip without one camera's images; as it is where the current frame has no other one."""
    mask = clip.current.camera_mask
    assert mask is not None  # Frame sets it
    others = mask.clone()
    others[camera] = False
    if not bool(others.any()):
        return clip
    return Clip(tuple(frame and _without(frame, camera) for frame in clip.frames), clip.offsets)


def draw_augmentation(
    config: AugmentationConfig,
    seed: int,
    epoch: int,
    index: int,  # of the sample in its data set
) -> tuple[ImageAugmentation, BEVAugmentation]:
    """The augmentation of one sample in one epoch.

    Every parameter is drawn, used or not, so that switching one on leaves the others as they are.
    """
    uniform = np.random.default_rng((seed, epoch, index)).uniform(size=7).tolist()
    rotation_rad = math.radians(config.rotate_deg) * (2 * uniform[2] - 1)
    image = ImageAugmentation(
        resize=_between(*config.resize, uniform[0], config.resize_steps),
        flip=config.flip_images and uniform[1] < 0.5,
    )
    bev = BEVAugmentation(
        rotation_rad=rotation_rad,
        scale=_between(*config.scale, uniform[3]),
        flip_x=config.flip_x and uniform[4] < 0.5,
        flip_y=config.flip_y and uniform[5] < 0.5,
    )
    return image, bev


def _without(frame: Frame, camera: int) -> Frame:
    images = [None if n == camera else image for n, image in enumerate(frame.images)]
    assert frame.camera_mask is not None  # Frame sets it
    mask = frame.camera_mask.clone()
    mask[camera] = False
    return replace(frame, images=images, camera_mask=mask)


def _between(low: float, high: float, fraction: float, steps: int = 0) -> float:
    """A value from low to high; with steps > 1 one of that many evenly spaced ones."""
    if steps > 1:
        fraction = min(int(fraction * steps), steps - 1) / (steps - 1)
    return low + (high - low) * fraction
