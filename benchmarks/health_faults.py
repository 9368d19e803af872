"""Faults of one camera, injected into the frames of a drive."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.health_drives import Drive
from bevstack.runtime.health import receive_images
from bevstack.types import Frame
from bevstack.types.health import CameraState

LEAD = 3  # frames before a fault that starts during the drive
LATE_US = 300_000
# Turns of the strengths on which the thresholds were chosen, and of strengths that were not used
FITTED_TURNS_DEG, FURTHER_TURNS_DEG = (3.0, 6.0), (6.0, 9.0)


@dataclass(frozen=True)
class Trial:
    """One fault in one drive."""

    drive: Drive
    camera: int
    other: int  # of a swap
    start: int  # index of the first frame
    draw: np.random.Generator
    strength: float = 0.0  # drawn once a trial, within the fault's range

    def frame(self, index: int) -> Frame:
        """Return a frame of the drive with the faulty camera alone, or with both of a swap."""
        drive = self.drive
        rows = [self.camera] if self.other < 0 else [self.camera, self.other]
        return drive.frame(index, rows)


Change = Callable[[Trial, int], Frame]


@dataclass(frozen=True)
class Fault:
    """Kind of fault: how it changes a drive, and which states name it."""

    change: Change  # from a trial and the index of a frame to the faulty frame
    states: frozenset[CameraState]
    limit_s: float  # within which it must be found
    strengths: tuple[float, float] = (0.0, 0.0)
    from_start: bool = False  # a fault of the mounting: there is no time before it
    swaps: bool = False

    def frames(self, trial: Trial) -> Iterator[tuple[Frame, bool]]:
        """Yield the frames of a trial, and True for those with the fault."""
        lead = 0 if self.from_start else LEAD
        for index in range(trial.start, len(trial.drive)):
            faulty = index >= trial.start + lead
            yield (self.change(trial, index) if faulty else trial.frame(index)), faulty


def _with_picture(frame: Frame, picture: NDArray[np.uint8] | None) -> Frame:
    return replace(frame, images=[picture, *frame.images[1:]], camera_mask=None)


def _picture(frame: Frame) -> NDArray[np.uint8]:
    image = frame.images[0]
    assert image is not None  # drives have every picture
    return image


def _at_time(frame: Frame, time_us: int) -> Frame:
    return replace(frame, camera_timestamp_us=(time_us, *frame.camera_timestamp_us[1:]))


def missing(trial: Trial, index: int) -> Frame:
    """Lose the picture."""
    return _with_picture(trial.frame(index), None)


def late(trial: Trial, index: int) -> Frame:
    """Give the picture a time 0.3 s earlier."""
    frame = trial.frame(index)
    return _at_time(frame, frame.camera_timestamp_us[0] - LATE_US)


def stale(trial: Trial, index: int) -> Frame:
    """Repeat the last picture before the fault, with its time."""
    held = trial.frame(trial.start + LEAD - 1)
    frame = _with_picture(trial.frame(index), _picture(held))
    return _at_time(frame, held.camera_timestamp_us[0])


def duplicate(trial: Trial, index: int) -> Frame:
    """Give each second picture twice."""
    if (index - trial.start - LEAD) % 2:
        return trial.frame(index)
    held = trial.frame(index - 1)
    return _at_time(_with_picture(trial.frame(index), _picture(held)), held.camera_timestamp_us[0])


def reordered(trial: Trial, index: int) -> Frame:
    """Exchange successive pictures: the second, then the first."""
    step = 1 if (index - trial.start - LEAD) % 2 == 0 else -1
    held = trial.frame(min(index + step, len(trial.drive) - 1))
    return _at_time(_with_picture(trial.frame(index), _picture(held)), held.camera_timestamp_us[0])


def rejected(trial: Trial, index: int) -> Frame:
    """Give pictures of another encoding or size, by turns of trials."""
    frame = trial.frame(index)
    picture = _picture(frame)
    height, width = picture.shape[:2]
    kinds: tuple[NDArray[np.generic], ...] = (
        picture[..., 0],
        picture.astype(np.uint16) * 257,
        np.dstack((picture, picture[..., :1])),
        picture[: height // 2],
    )
    image = kinds[trial.start % len(kinds)]
    received = receive_images([image], frame.camera_names[:1], [(height, width)])
    return replace(_with_picture(frame, received.images[0]), rejected_cameras=received.rejected)


def black(trial: Trial, index: int) -> Frame:
    """Cover the lens: noise of the sensor alone, of the trial's standard deviation."""
    frame = trial.frame(index)
    noise = trial.draw.normal(0.0, trial.strength, _picture(frame).shape)
    return _with_picture(frame, np.clip(noise, 0, 255).astype(np.uint8))


def over_exposed(trial: Trial, index: int) -> Frame:
    """Multiply the light, beyond the range of the sensor."""
    frame = trial.frame(index)
    bright = _picture(frame).astype(np.float32) * trial.strength + 120.0
    return _with_picture(frame, np.clip(bright, 0, 255).astype(np.uint8))


def frozen(trial: Trial, index: int) -> Frame:
    """Repeat the last picture before the fault, with new times."""
    held = trial.frame(trial.start + LEAD - 1)
    return _with_picture(trial.frame(index), _picture(held))


def blurred(trial: Trial, index: int) -> Frame:
    """Smooth the picture by a Gaussian, in parts of a thousand of its width."""
    frame = trial.frame(index)
    picture = _picture(frame)
    sigma = 1e-3 * trial.strength * picture.shape[1]
    return _with_picture(frame, cv2.GaussianBlur(picture, (0, 0), sigma).astype(np.uint8))


def covered(trial: Trial, index: int) -> Frame:
    """Cover a share of the picture with a soft brown patch that does not move."""
    frame = trial.frame(index)
    picture = _picture(frame)
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    # An ellipse of the given share of the picture's area, if it lay inside.
    radius = math.sqrt(trial.strength * 4 / math.pi)
    offset = np.hypot((columns / width - 0.5) * 2, (rows / height - 0.5) * 2)
    alpha = 1 / (1 + np.exp((offset - radius) / 0.03))[..., None]
    mud = np.array((70.0, 60.0, 48.0))
    noise = trial.draw.normal(0.0, 2.0, picture.shape)
    mixed = picture * (1 - alpha) + (mud + noise) * alpha
    return _with_picture(frame, np.clip(mixed, 0, 255).astype(np.uint8))


def noisy(trial: Trial, index: int) -> Frame:
    """Add noise of the trial's standard deviation."""
    frame = trial.frame(index)
    picture = _picture(frame)
    noise = trial.draw.normal(0.0, trial.strength, picture.shape)
    return _with_picture(frame, np.clip(picture + noise, 0, 255).astype(np.uint8))


def swapped(trial: Trial, index: int) -> Frame:
    """Exchange the pictures of two cameras, with their times."""
    frame = trial.frame(index)
    times, poses = frame.camera_timestamp_us, frame.world_from_ego_at_camera
    assert poses is not None  # drives have every pose
    return replace(
        frame,
        images=list(frame.images)[::-1],
        camera_timestamp_us=times[::-1],
        world_from_ego_at_camera=poses.flip(0),
    )


def turned(axis: str) -> Change:
    """Return the fault of a camera that is turned about one of its axes, by degrees."""

    def change(trial: Trial, index: int) -> Frame:
        frame = trial.frame(index)
        pose = frame.ego_from_cam.clone()
        turn = Rotation.from_euler(axis, trial.strength, degrees=True).as_matrix()
        pose[0, :3, :3] = pose[0, :3, :3] @ torch.from_numpy(turn)
        return replace(frame, ego_from_cam=pose)

    return change


def _fault(
    change: Change,
    *states: CameraState,
    strengths: tuple[float, float] = (0.0, 0.0),
    limit_s: float = 1.0,
    from_start: bool = False,
) -> Fault:
    return Fault(change, frozenset(states), limit_s, strengths, from_start, swaps=change is swapped)


_S = CameraState
FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "missing": _fault(missing, _S.MISSING),
        "late": _fault(late, _S.LATE),
        "stale": _fault(stale, _S.STALE),
        "duplicate": _fault(duplicate, _S.DUPLICATE),
        "reordered": _fault(reordered, _S.OUT_OF_ORDER),
        "rejected": _fault(rejected, _S.REJECTED),
        "black": _fault(black, _S.BLACK, strengths=(1.0, 4.0)),
        "over_exposed": _fault(over_exposed, _S.OVER_EXPOSED, strengths=(8.0, 16.0)),
        "frozen": _fault(frozen, _S.FROZEN),
        "blurred": _fault(blurred, _S.BLURRED, strengths=(8.0, 16.0), limit_s=5.0),
        "covered": _fault(covered, _S.COVERED, strengths=(0.7, 1.0), limit_s=5.0),
        "noise": _fault(noisy, _S.NOISE, strengths=(15.0, 60.0), limit_s=5.0),
        "swapped": _fault(swapped, _S.SWAPPED, limit_s=5.0, from_start=True),
        # A camera whose picture does not fit its calibration may also be called swapped.
        **{
            f"turned_{name}{suffix}": _fault(
                turned(axis), _S.TURNED, strengths=degrees, limit_s=5.0, from_start=True
            )
            for suffix, degrees in (("", FITTED_TURNS_DEG), ("_far", FURTHER_TURNS_DEG))
            for name, axis in (("yaw", "y"), ("pitch", "x"), ("roll", "z"))
        },
    }
)
