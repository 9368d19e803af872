"""Faults of several cameras at once, drawn at random for each drive and injected into its frames.

Strengths and kinds of the fit and of the measurement differ, so that the trust is measured under
faults that it was not fitted with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.types import Frame

Picture = NDArray[np.uint8]
Range = tuple[float, float]

NO_FAULT = "none"
MAX_CAMERA_AGE_S = 0.75  # so that the picture of the key frame before is late and not stale


class Fault(NamedTuple):
    """A fault of one camera in a part of a drive."""

    kind: str
    camera: int
    start: int  # first faulty frame
    end: int  # first frame without the fault
    strength: float


class _Shot(NamedTuple):
    """Content of one camera in one frame, before or after a fault."""

    picture: Picture | None
    time_us: int
    world_from_ego: torch.Tensor  # (4, 4) at that time
    rejected: bool = False


class _Moment(NamedTuple):
    """All that a fault may use."""

    now: _Shot
    before: _Shot  # of the frame before
    held: _Shot  # of the last frame before the fault
    strength: float
    draw: np.random.Generator


def _noise(picture: Picture, deviation: float, draw: np.random.Generator) -> Picture:
    noisy = picture + draw.normal(0.0, deviation, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _on_picture(change: Callable[[Picture, float, np.random.Generator], Picture]) -> _Change:
    def changed(moment: _Moment) -> _Shot:
        picture = moment.now.picture
        if picture is None:
            return moment.now
        return moment.now._replace(picture=change(picture, moment.strength, moment.draw))

    return changed


def _black(picture: Picture, strength: float, draw: np.random.Generator) -> Picture:
    return _noise(np.zeros_like(picture), strength, draw)


def _over_exposed(picture: Picture, strength: float, _: np.random.Generator) -> Picture:
    return np.clip(picture * strength + 120.0, 0, 255).astype(np.uint8)


def _blurred(picture: Picture, strength: float, _: np.random.Generator) -> Picture:
    sigma = 1e-3 * strength * picture.shape[1]
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def _covered(picture: Picture, strength: float, draw: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    radius = math.sqrt(strength * 4 / math.pi)  # of an ellipse with this share of the area
    offset = np.hypot((columns / width - 0.5) * 2, (rows / height - 0.5) * 2)
    alpha = 1 / (1 + np.exp((offset - radius) / 0.03))[..., None]
    mud = np.array((70.0, 60.0, 48.0)) + draw.normal(0.0, 2.0, picture.shape)
    mixed: Picture = np.clip(picture * (1 - alpha) + mud * alpha, 0, 255).astype(np.uint8)
    return mixed


_Change = Callable[[_Moment], _Shot]

CHANGES: Mapping[str, _Change] = MappingProxyType(
    {
        "missing": lambda moment: moment.now._replace(picture=None),
        "rejected": lambda moment: moment.now._replace(picture=None, rejected=True),
        "late": lambda moment: moment.before,
        "stale": lambda moment: moment.held,
        "frozen": lambda moment: moment.now._replace(picture=moment.held.picture),
        "black": _on_picture(_black),
        "over_exposed": _on_picture(_over_exposed),
        "blurred": _on_picture(_blurred),
        "covered": _on_picture(_covered),
        "noise": _on_picture(_noise),
    }
)
# Kinds with the range of their strength: a deviation in grey levels, a factor of the light, a
# deviation of the blur in parts of a thousand of the width, a share of the picture.
FIT_FAULTS: Mapping[str, Range] = MappingProxyType(
    {
        "missing": (0.0, 0.0),
        "black": (2.0, 3.0),
        "blurred": (8.0, 10.0),
        "late": (0.0, 0.0),
        "covered": (0.75, 0.85),
    }
)
TEST_FAULTS: Mapping[str, Range] = MappingProxyType(
    {
        "missing": (0.0, 0.0),
        "rejected": (0.0, 0.0),
        "stale": (0.0, 0.0),
        "late": (0.0, 0.0),
        "frozen": (0.0, 0.0),
        "black": (1.0, 4.0),
        "over_exposed": (8.0, 16.0),
        "blurred": (10.0, 16.0),
        "noise": (15.0, 60.0),
        "covered": (0.7, 1.0),
    }
)


def draw_faults(
    kinds: Mapping[str, Range], num_cameras: int, num_frames: int, draw: np.random.Generator
) -> tuple[Fault, ...]:
    """Draw the faults of one drive: one kind, on some cameras but not all, for some frames each."""
    kind = str(draw.choice(sorted(kinds)))
    count = int(draw.integers(1, num_cameras)) if num_cameras > 1 else 1
    cameras = draw.choice(num_cameras, count, replace=False)
    faults = []
    for camera in cameras.tolist():
        start = int(draw.integers(1, max(2, num_frames - 1)))
        end = start + int(draw.integers(1, num_frames + 1))
        faults.append(Fault(kind, camera, start, end, float(draw.uniform(*kinds[kind]))))
    return tuple(faults)


@dataclass
class FaultyDrive:
    """Injector of the faults of one drive, whose frames come in order of time.

    Args:
        faults: at most one a camera.
        draw: source of the noise.
    """

    faults: Sequence[Fault]
    draw: np.random.Generator

    def __post_init__(self) -> None:
        self._index = -1
        self._before: tuple[_Shot, ...] = ()
        self._held: dict[int, _Shot] = {}

    def inject(self, frame: Frame) -> Frame:
        """Return the next frame of the drive with the faults of its time.

        Raises:
            ValueError: the frame has no pose or no times of its cameras.
        """
        self._index += 1
        shots = _shots(frame)
        changed = list(shots)
        for fault in self.faults:
            row = fault.camera
            if self._index == fault.start:
                self._held[row] = self._before[row] if self._before else shots[row]
            if fault.start <= self._index < fault.end:
                before = self._before[row] if self._before else shots[row]
                changed[row] = CHANGES[fault.kind](
                    _Moment(shots[row], before, self._held[row], fault.strength, self.draw)
                )
        self._before = shots
        names = frame.camera_labels()
        return replace(
            frame,
            images=[shot.picture for shot in changed],
            camera_mask=None,
            camera_timestamp_us=tuple(shot.time_us for shot in changed),
            world_from_ego_at_camera=torch.stack([shot.world_from_ego for shot in changed]),
            rejected_cameras=tuple(
                name for name, shot in zip(names, changed, strict=True) if shot.rejected
            ),
            max_camera_age_s=MAX_CAMERA_AGE_S,
        )


def _shots(frame: Frame) -> tuple[_Shot, ...]:
    poses, times = frame.world_from_ego_at_camera, frame.camera_timestamp_us
    if poses is None or not times:
        raise ValueError(
            "frames of a drive with faults must have the times of their cameras and the poses at "
            f"these times; got none in frame {frame.sample_token!r}"
        )
    return tuple(_Shot(*content) for content in zip(frame.images, times, poses, strict=True))
