"""Datasets of disturbed frames, on which a detector that uses its images must score low."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.config import Config
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.types import Frame

Change = Callable[[int, Frame], Frame]  # from a sample's index and frame to the disturbed frame


class DerivedDataset(NuScenesDataset):
    """The samples of another dataset; parent of classes that change the frames.

    Args:
        dataset: source of the samples.
    """

    def __init__(self, dataset: NuScenesDataset) -> None:
        self.__dict__.update(dataset.__dict__)

    def select(self, indices: Iterable[int]) -> NuScenesDataset:
        """Refuse to select samples: the selected samples would lose their changes.

        Raises:
            TypeError: always.
        """
        raise TypeError("samples must be selected before their frames are changed; got them after")


class ChangedFrames(DerivedDataset):
    """The same samples, each frame changed after it is read.

    Args:
        dataset: source of the samples.
        change: function that changes a frame.
        full_size: decode images at full size, whatever ``images_for`` is.
    """

    def __init__(
        self, dataset: NuScenesDataset, change: Change, *, full_size: bool = False
    ) -> None:
        super().__init__(dataset)
        self._change = change
        self._full_size = full_size

    def frame(
        self,
        index: int,
        load_images: bool = True,
        *,
        camera_annotations: bool = False,
        images_for: Config | None = None,
    ) -> Frame:
        """Load one sample and change it."""
        size = None if self._full_size else images_for
        frame = super().frame(
            index, load_images, camera_annotations=camera_annotations, images_for=size
        )
        return self._change(index, frame)

    def neighbour(
        self,
        index: int,
        offset: int,
        load_images: bool = True,
        *,
        annotated: bool = True,
        images_for: Config | None = None,
    ) -> Frame | None:
        """Load a sample before or after this one and change it."""
        size = None if self._full_size else images_for
        frame = super().neighbour(index, offset, load_images, annotated=annotated, images_for=size)
        return frame and self._change(self.index_of(frame.sample_token), frame)


def with_blank_images(dataset: NuScenesDataset, colour: Sequence[float]) -> ChangedFrames:
    """Replace every image by one colour, RGB 0 to 255."""
    value = np.clip(np.round(np.asarray(colour)), 0, 255).astype(np.uint8)

    def change(_: int, frame: Frame) -> Frame:
        images = [image if image is None else _filled(image, value) for image in frame.images]
        return replace(frame, images=images)

    return ChangedFrames(dataset, change)


def with_images_of_other_scenes(dataset: NuScenesDataset, config: Config) -> ChangedFrames:
    """Give every sample the images of a sample of another scene, but keep calibration and pose.

    Raises:
        ValueError: see ``assign_partners``; or, when a frame is loaded, the cameras or image sizes
            of the two samples differ.
    """
    partners = assign_partners(dataset.scene_indices())

    def change(index: int, frame: Frame) -> Frame:
        other = dataset.frame(partners[index], images_for=config)
        check_same_cameras(frame, other)
        return replace(frame, images=other.images, camera_mask=None)

    return ChangedFrames(dataset, change)


def with_permuted_cameras(dataset: NuScenesDataset) -> ChangedFrames:
    """Give every camera the image of the next camera in order, but keep its calibration.

    Raises:
        ValueError: the images have different sizes (when a frame is loaded).
    """

    def change(_: int, frame: Frame) -> Frame:
        images = [*frame.images[1:], frame.images[0]]
        check_same_cameras(frame, replace(frame, images=images, camera_mask=None, camera_names=()))
        return replace(frame, images=images, camera_mask=None)

    return ChangedFrames(dataset, change)


def with_turned_calibration(dataset: NuScenesDataset, yaw_deg: float) -> ChangedFrames:
    """Turn the calibration of every camera about its position, but keep its images.

    Args:
        dataset: source of the samples.
        yaw_deg: counter-clockwise seen from above.
    """
    cos, sin = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    turn = torch.tensor(((cos, -sin, 0), (sin, cos, 0), (0, 0, 1)), dtype=torch.float64)

    def change(_: int, frame: Frame) -> Frame:
        pose = frame.ego_from_cam.clone()
        pose[:, :3, :3] = turn @ pose[:, :3, :3]
        return replace(frame, ego_from_cam=pose)

    return ChangedFrames(dataset, change)


def without_camera(dataset: NuScenesDataset, name: str) -> ChangedFrames:
    """Remove the images of one camera.

    Raises:
        ValueError: a sample does not have the camera (when its frame is loaded).
    """

    def change(_: int, frame: Frame) -> Frame:
        if name not in frame.camera_names:
            raise ValueError(f"camera must be one of {', '.join(frame.camera_names)}; got {name!r}")
        lost = frame.camera_names.index(name)
        images = [None if n == lost else image for n, image in enumerate(frame.images)]
        return replace(frame, images=images, camera_mask=None)

    return ChangedFrames(dataset, change)


def assign_partners(scenes: Mapping[str, Sequence[int]]) -> list[int]:
    """Assign each sample a sample of another scene; the result is a fixed permutation.

    The samples, scene by scene, are shifted by half of their number.

    Args:
        scenes: indices of each scene's samples; together 0 up to their number.

    Raises:
        ValueError: one scene holds more than half of all samples.
    """
    order = [index for indices in scenes.values() for index in indices]
    step, longest = len(order) // 2, max(map(len, scenes.values()), default=0)
    if longest > step or not order:
        raise ValueError(
            "samples must be of two scenes or more, none with more than half of the samples; got "
            f"{len(scenes)} scenes and {longest} of {len(order)} samples in one: use more scenes"
        )
    partners = [0] * len(order)
    for position, index in enumerate(order):
        partners[index] = order[(position + step) % len(order)]
    return partners


def check_same_cameras(frame: Frame, other: Frame) -> None:
    """Check that the cameras have the same names and their images the same sizes.

    Raises:
        ValueError: names or sizes differ.
    """
    sizes = [[image is not None and image.shape for image in f.images] for f in (frame, other)]
    names_differ = frame.camera_names != other.camera_names and bool(other.camera_names)
    if sizes[0] != sizes[1] or names_differ:
        raise ValueError(
            "exchanged images must have the same cameras and sizes; got "
            f"{frame.camera_names} {sizes[0]} and {other.camera_names} {sizes[1]}"
        )


def _filled(image: NDArray[np.uint8], colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image of one colour, of the same size."""
    return np.broadcast_to(colour, image.shape).copy()
