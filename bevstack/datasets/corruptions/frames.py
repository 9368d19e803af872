"""Corruption of the pictures of a frame, by random numbers that depend on the picture alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from bevstack.datasets.corruptions.catalogue import (
    CRASHED,
    PUBLISHED_WIDTH_PX,
    Corruption,
)
from bevstack.datasets.corruptions.light import Image
from bevstack.types import Frame

_SIXTHS = 6  # cameras of nuScenes, in the published probability of a lost frame


def corrupt_frame(
    frame: Frame, corruption: Corruption, level: str, *, black: bool = False
) -> Frame:
    """Change the pictures of a frame as a corruption does.

    The random numbers depend on the corruption, the level, the sample token and the camera, not on
    the model or the order of frames. Pictures that are None stay None.

    Args:
        frame: images at full size, since severities are in their pixels.
        corruption: one of ``CORRUPTIONS``.
        level: "easy", "moderate" or "hard".
        black: True: a lost camera gives a black picture and counts as working, as in the published
            benchmark. False: its picture is None, and it is not attended to.

    Raises:
        ValueError: the frame has no sample token, or there is no such level.
    """
    if not frame.sample_token:
        raise ValueError("sample_token must be given for a corrupted frame; got an empty one")
    cameras = frame.camera_labels()
    if corruption.loses_cameras:
        lost = lost_cameras(corruption, level, frame.sample_token, cameras)
        return _lose(frame, [name in lost for name in cameras], black=black)
    images = [
        None
        if image is None
        else corrupt_image(image, corruption, level, generator(corruption, level, frame, name))
        for image, name in zip(frame.images, cameras, strict=True)
    ]
    return replace(frame, images=images)


def lost_cameras(
    corruption: Corruption, level: str, sample_token: str, cameras: Sequence[str]
) -> frozenset[str]:
    """Return the cameras that a corruption loses in a sample.

    "CameraCrash" draws as many cameras as its severity, with replacement, and loses the same ones
    in every sample. "FrameLost" loses each camera of each sample with a probability of
    severity / 6. Other corruptions lose none.

    Args:
        corruption: one of ``CORRUPTIONS``.
        level: "easy", "moderate" or "hard".
        sample_token: of the sample.
        cameras: names of the rig's cameras; their order does not matter.

    Raises:
        ValueError: there is no such level.
    """
    severity = corruption.severity(level)
    if corruption.name == CRASHED:
        drawn = _generator(corruption.name, level).integers(len(cameras), size=severity)
        return frozenset(sorted(cameras)[index] for index in drawn.tolist())
    if not corruption.loses_cameras:
        return frozenset()
    return frozenset(
        name
        for name in cameras
        if _generator(corruption.name, level, sample_token, name).random() < severity / _SIXTHS
    )


def generator(corruption: Corruption, level: str, frame: Frame, camera: str) -> np.random.Generator:
    """Return the source of random numbers of one picture."""
    return _generator(corruption.name, level, frame.sample_token, camera)


def _generator(*key: str) -> np.random.Generator:
    digest = hashlib.sha256("\n".join(key).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype="<u4"))


def corrupt_image(
    image: Image, corruption: Corruption, level: str, rng: np.random.Generator
) -> Image:
    """Return a picture under a corruption that does not lose cameras.

    Raises:
        ValueError: there is no such level.
    """
    return corrupt_by(image, corruption, corruption.severity(level), rng)


def corrupt_by(
    image: Image, corruption: Corruption, severity: float, rng: np.random.Generator
) -> Image:
    """Return a picture under a corruption of any severity, whole or between two whole ones.

    Raises:
        ValueError: the severity lies outside the corruption's table.
    """
    assert corruption.change is not None  # documented
    scale = image.shape[1] / PUBLISHED_WIDTH_PX
    return corruption.change(image, severity, rng, scale)


def _lose(frame: Frame, lost: Sequence[bool], *, black: bool) -> Frame:
    if black:
        images = [
            np.zeros_like(image) if gone and image is not None else image
            for image, gone in zip(frame.images, lost, strict=True)
        ]
        return replace(frame, images=images)
    kept = [None if gone else image for image, gone in zip(frame.images, lost, strict=True)]
    assert frame.camera_mask is not None  # Frame sets it
    return replace(frame, images=kept, camera_mask=frame.camera_mask & ~torch.tensor(lost))
