"""Data sets whose frames are changed: what a detector that looks must not do well on."""

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

Change = Callable[[int, Frame], Frame]  # a sample's index and its frame to the frame shown instead


class DerivedDataset(NuScenesDataset):
    """The samples of another data set, for classes that give other frames of them.

    Args:
        dataset: where the samples are from.
    """

    def __init__(self, dataset: NuScenesDataset) -> None:
        self.__dict__.update(dataset.__dict__)

    def select(self, indices: Iterable[int]) -> NuScenesDataset:
        """Not possible here: the samples chosen would be as they are in their files."""
        raise TypeError("samples must be selected before their frames are changed; got them after")


class ChangedFrames(DerivedDataset):
    """The same samples, each frame changed after it was read.

    Args:
        dataset: what is changed.
        change: how.
    """

    def __init__(self, dataset: NuScenesDataset, change: Change) -> None:
        super().__init__(dataset)
        self._change = change

    def frame(
        self,
        index: int,
        load_images: bool = True,
        *,
        camera_annotations: bool = False,
        images_for: Config | None = None,
    ) -> Frame:
        """One sample, changed."""
        frame = super().frame(
            index, load_images, camera_annotations=camera_annotations, images_for=images_for
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
        """A sample before or after, changed too."""
        frame = super().neighbour(
            index, offset, load_images, annotated=annotated, images_for=images_for
        )
        return frame and self._change(self.index_of(frame.sample_token), frame)


def blanked(dataset: NuScenesDataset, colour: Sequence[float]) -> ChangedFrames:
    """Every image of one colour, RGB 0 to 255."""
    value = np.clip(np.round(np.asarray(colour)), 0, 255).astype(np.uint8)

    def change(_: int, frame: Frame) -> Frame:
        images = [image if image is None else _filled(image, value) for image in frame.images]
        return replace(frame, images=images)

    return ChangedFrames(dataset, change)


def of_other_samples(dataset: NuScenesDataset, config: Config) -> ChangedFrames:
    """Every sample with the images of a sample of another scene, its own calibration and pose."""
    partner = partners(dataset.scene_indices())

    def change(index: int, frame: Frame) -> Frame:
        other = dataset.frame(partner[index], images_for=config)
        check_alike(frame, other)
        return replace(frame, images=other.images, camera_mask=None)

    return ChangedFrames(dataset, change)


def permuted_cameras(dataset: NuScenesDataset) -> ChangedFrames:
    """Every camera with the image of the next one in order, its own calibration."""

    def change(_: int, frame: Frame) -> Frame:
        images = [*frame.images[1:], frame.images[0]]
        check_alike(frame, replace(frame, images=images, camera_mask=None, camera_names=()))
        return replace(frame, images=images, camera_mask=None)

    return ChangedFrames(dataset, change)


def turned_calibration(dataset: NuScenesDataset, yaw_deg: float) -> ChangedFrames:
    """Every camera said to be turned where it stands, counter-clockwise from above; it is not."""
    cos, sin = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    turn = torch.tensor(((cos, -sin, 0), (sin, cos, 0), (0, 0, 1)), dtype=torch.float64)

    def change(_: int, frame: Frame) -> Frame:
        pose = frame.ego_from_cam.clone()
        pose[:, :3, :3] = turn @ pose[:, :3, :3]
        return replace(frame, ego_from_cam=pose)

    return ChangedFrames(dataset, change)


def without_camera(dataset: NuScenesDataset, name: str) -> ChangedFrames:
    """Every sample without the image of one camera.

    Raises:
        ValueError: a sample has no such camera (when its frame is asked for).
    """

    def change(_: int, frame: Frame) -> Frame:
        if name not in frame.camera_names:
            raise ValueError(f"camera must be one of {', '.join(frame.camera_names)}; got {name!r}")
        lost = frame.camera_names.index(name)
        images = [None if n == lost else image for n, image in enumerate(frame.images)]
        return replace(frame, images=images, camera_mask=None)

    return ChangedFrames(dataset, change)


def partners(scenes: Mapping[str, Sequence[int]]) -> list[int]:
    """For every sample one of another scene, each once: a permutation, the same every time.

    The samples, scene by scene, are moved on by half of all.

    Args:
        scenes: indices of each scene's samples, together 0 up to their number.

    Raises:
        ValueError: one scene holds more than half of all samples.
    """
    order = [index for indices in scenes.values() for index in indices]
    step, longest = len(order) // 2, max(map(len, scenes.values()), default=0)
    if longest > step or not order:
        raise ValueError(
            "samples must be of two scenes or more, none with more than half of all; got "
            f"{len(scenes)} scenes and {longest} of {len(order)} samples in one: take more scenes"
        )
    partner = [0] * len(order)
    for place, index in enumerate(order):
        partner[index] = order[(place + step) % len(order)]
    return partner


def check_alike(frame: Frame, other: Frame) -> None:
    """Raises unless the cameras have the same names and their images the same sizes."""
    sizes = [[image is not None and image.shape for image in f.images] for f in (frame, other)]
    names = frame.camera_names != other.camera_names and bool(other.camera_names)
    if sizes[0] != sizes[1] or names:
        raise ValueError(
            "images that change places must be of the same cameras and sizes; got "
            f"{frame.camera_names} {sizes[0]} and {other.camera_names} {sizes[1]}"
        )


def _filled(image: NDArray[np.uint8], colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.broadcast_to(colour, image.shape).copy()
