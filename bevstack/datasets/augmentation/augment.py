"""Training-time augmentation of images (IDA), bird's-eye view (BDA), pixels and cameras.

BEVFormer v2 specification, section 3.

- IDA and BDA: one draw for all cameras and all frames of a sample.
- Colours: one draw per image.
- Grid mask: one draw for all cameras of the current frame.
- Camera dropout: the camera is lost in all frames.
- Picture dropout: one probability for the sample; each picture is lost independently.
- Corruption: one kind and severity for all cameras and all frames of a sample; noise, flakes and
  fields of fog are drawn for each image.

Every draw is a function of (seed, epoch, sample index) alone, so that neither the number of workers
nor a restart changes it.
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
from bevstack.datasets.corruptions import CORRUPTIONS, LEVELS, Corruption, corrupt_by
from bevstack.types import Annotations, Boxes3D, Clip, Frame

GREATEST_SHARE_LOST = 5 / 6  # of the pictures of a sample, as in FrameLost at its hard level


@dataclass(frozen=True, kw_only=True)
class ImageAugmentation:
    """Geometric augmentation of all images of a sample; the defaults change nothing."""

    resize: float = 1.0  # factor of the configured image size
    flip: bool = False  # mirror left to right


@dataclass(frozen=True, kw_only=True)
class BEVAugmentation:
    """Rotation, then scaling, then mirroring of space about the bev frame's origin.

    Images and rig do not change: the model resamples its BEV map with ``matrix``.
    """

    rotation_rad: float = 0.0  # about z, counter-clockwise
    scale: float = 1.0
    flip_x: bool = False  # x -> -x
    flip_y: bool = False  # y -> -y

    def matrix(self) -> Tensor:  # (3, 3) float64
        """Return the transform augmented_bev_from_bev."""
        cos, sin = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        rotation = torch.tensor(((cos, -sin, 0), (sin, cos, 0), (0, 0, 1)), dtype=torch.float64)
        signs = torch.tensor((1 - 2 * self.flip_x, 1 - 2 * self.flip_y, 1), dtype=torch.float64)
        return self.scale * signs[:, None] * rotation

    def apply(self, annotations: Annotations) -> Annotations:
        """Transform annotations to augmented space, sizes and velocities included."""
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
    """Augmentation of one sample's pixels in one epoch, which leaves the geometry unchanged.

    Every image and every kind of augmentation has an independent random stream. Switching one kind
    on, losing a camera or loading different frames does not change the remaining draws.
    """

    config: AugmentationConfig
    seed: int
    epoch: int
    index: int  # of the sample in its dataset

    def photometric(self, offset: int, camera: int) -> PhotometricDistortion | None:
        """Draw the colour distortion of one image.

        Args:
            offset: key frames from the current frame.
            camera: index of the camera.

        Returns:
            The distortion, or None if the configuration has none.
        """
        if not self.config.photometric:
            return None
        return draw_photometric(self._stream("photometric", offset, camera))

    def grid_mask(
        self,
        size: tuple[int, int],  # (H, W) of the padded images
    ) -> GridMask | None:
        """Draw the mask for all cameras of the current frame; None if there is none."""
        if not self.config.grid_mask:
            return None
        return draw_grid_mask(self._stream("grid_mask"), size, self.config.grid_mask)

    def lost_camera(self, num_cameras: int) -> int | None:
        """Draw the camera that the sample loses, each with equal probability; None: keep all."""
        if not self.config.camera_dropout:
            return None
        stream = self._stream("camera_dropout")
        is_lost, camera = stream.uniform() < self.config.camera_dropout, stream.uniform()
        return int(camera * num_cameras) if is_lost else None

    def drop_pictures(self, clip: Clip) -> Clip:
        """Return the clip without the pictures that it loses; unchanged if it loses none.

        A past frame that loses all of its pictures is missing. The current frame keeps one that is
        drawn at random.
        """
        if not self.config.picture_dropout:
            return clip
        stream = self._stream("picture_dropout")
        is_dropping, share = stream.uniform() < self.config.picture_dropout, stream.uniform()
        if not is_dropping:
            return clip
        frames = [
            None if frame is None else self._drop(frame, offset, share * GREATEST_SHARE_LOST)
            for frame, offset in zip(clip.frames, clip.offsets, strict=True)
        ]
        return Clip(tuple(frames), clip.offsets)

    def _drop(self, frame: Frame, offset: int, share: float) -> Frame | None:
        stream = self._stream("lost_pictures", offset)
        draws = stream.uniform(size=frame.num_cameras)
        assert frame.camera_mask is not None  # Frame sets it
        mask = frame.camera_mask & torch.from_numpy(draws >= share)
        if offset == 0 and not bool(mask.any()):
            present = np.where(frame.camera_mask.numpy(), draws, -1.0)
            mask[int(present.argmax())] = bool(frame.camera_mask.any())
        return _with_mask(frame, mask) if offset == 0 or bool(mask.any()) else None

    def corruption(self) -> tuple[Corruption, float] | None:
        """Draw the corruption of all images of the sample and its severity; None: there is none."""
        if not self.config.corruption:
            return None
        stream = self._stream("corruption")
        is_corrupted = stream.uniform() < self.config.corruption
        kinds = self.config.corruption_kinds
        kind = CORRUPTIONS[kinds[int(stream.integers(len(kinds)))]]
        if self.config.corruption_severity == "between":
            severity = kind.severity_between(stream.uniform(), stream.uniform())
        else:
            severity = kind.severity(LEVELS[int(stream.integers(len(LEVELS)))])
        return (kind, severity) if is_corrupted else None

    def corrupt(self, clip: Clip) -> Clip:
        """Return the clip with corrupted images, if one is drawn; unchanged otherwise."""
        drawn = self.corruption()
        if drawn is None:
            return clip
        frames = [
            None if frame is None else self._corrupt_frame(frame, offset, *drawn)
            for frame, offset in zip(clip.frames, clip.offsets, strict=True)
        ]
        return Clip(tuple(frames), clip.offsets)

    def _corrupt_frame(
        self, frame: Frame, offset: int, corruption: Corruption, severity: float
    ) -> Frame:
        images = [
            None
            if image is None
            else corrupt_by(image, corruption, severity, self._stream("noise", offset, camera))
            for camera, image in enumerate(frame.images)
        ]
        return replace(frame, images=images)

    def _stream(self, name: str, *position: int) -> np.random.Generator:
        key = (zlib.crc32(name.encode()), *(2 * abs(part) + (part < 0) for part in position))
        entropy = (self.seed, self.epoch, self.index)
        return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=key))


def lose_camera(clip: Clip, camera: int) -> Clip:
    """Return the clip without one camera's images; unchanged if no other camera is left."""
    mask = clip.current.camera_mask
    assert mask is not None  # Frame sets it
    remaining = mask.clone()
    remaining[camera] = False
    if not bool(remaining.any()):
        return clip
    frames = (None if frame is None else _without(frame, camera) for frame in clip.frames)
    return Clip(tuple(frames), clip.offsets)


def draw_augmentation(
    config: AugmentationConfig,
    seed: int,
    epoch: int,
    index: int,  # of the sample in its dataset
) -> tuple[ImageAugmentation, BEVAugmentation]:
    """Draw the geometric augmentation of one sample in one epoch.

    Every parameter is drawn, used or not, so that switching one on does not change the remaining.
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
    assert frame.camera_mask is not None  # Frame sets it
    mask = frame.camera_mask.clone()
    mask[camera] = False
    return _with_mask(frame, mask)


def _with_mask(frame: Frame, mask: Tensor) -> Frame:  # mask: (N,), of the pictures to keep
    images = [
        image if keep else None for image, keep in zip(frame.images, mask.tolist(), strict=True)
    ]
    return replace(frame, images=images, camera_mask=mask)


def _between(low: float, high: float, fraction: float, steps: int = 0) -> float:
    """Interpolate from low to high; steps > 1 selects one of that many evenly spaced values."""
    if steps > 1:
        fraction = min(int(fraction * steps), steps - 1) / (steps - 1)
    return low + (high - low) * fraction
