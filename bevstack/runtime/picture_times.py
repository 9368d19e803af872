"""Pictures of a drive on the disk: their times from their names, and the frames that they form.

A folder holds one sub-folder a camera, with pictures whose names end with their times
(``CAM_FRONT/1700000000000000.jpg``), or one sub-folder a frame, whose name ends with its time and
which holds one picture a camera (``1700000000000000/CAM_FRONT.jpg``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevstack.runtime.rig import RigCamera
from bevstack.times import MAX_CAMERA_AGE_S, whole_microseconds

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
# The digits at the end of a name, unless they are the fraction of a number of seconds.
_TIME = re.compile(r"(?:^|[^0-9.])([0-9]{1,30})$")
_MIN_SPACING_US = 2000  # no camera takes 500 pictures a second
_UNKNOWN_SPACING_US = 500_000  # of cameras with one picture each


@dataclass(frozen=True)
class CameraPictures:
    """Picture files of a camera, in order of time."""

    times_us: NDArray[np.int64]  # (P,) ascending
    paths: tuple[Path, ...]  # P

    def __len__(self) -> int:
        return len(self.paths)


def find_pictures(folder: Path, cameras: Sequence[RigCamera]) -> dict[str, CameraPictures]:
    """Return the pictures below a folder by camera; cameras without pictures are left out.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: a name does not end with a time in microseconds, or two pictures of a camera
            have the same time.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder of frames must exist; got {folder}")
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    by_name = {camera.name: camera for camera in cameras}
    if any(path.name in by_name for path in inner):
        found = {path.name: _camera_folder(path) for path in inner if path.name in by_name}
    else:
        found = _frame_folders(folder, inner, cameras)
    return {name: pictures for name, pictures in found.items() if len(pictures)}


def frame_times(pictures: Mapping[str, CameraPictures]) -> NDArray[np.int64]:  # (F,) ascending
    """Return the times of the frames that the pictures of all cameras form.

    A frame holds at most one picture of each camera, taken within half the time between the
    pictures of one camera. Its time is that of the picture in the middle.
    """
    most = max(pictures.values(), key=len)
    spacing = float(np.median(np.diff(most.times_us))) if len(most) > 1 else _UNKNOWN_SPACING_US
    taken = sorted(
        (int(time), name) for name, own in pictures.items() for time in own.times_us.tolist()
    )
    groups: list[list[tuple[int, str]]] = []
    for time, name in taken:
        group = groups[-1] if groups else []
        if not group or time - group[0][0] >= spacing / 2 or name in [n for _, n in group]:
            groups.append([(time, name)])
        else:
            group.append((time, name))
    return np.array([group[(len(group) - 1) // 2][0] for group in groups], dtype=np.int64)


def choose_times(
    times_us: NDArray[np.int64],  # (F,) ascending
    interval_s: float,
) -> NDArray[np.int64]:  # indices, ascending
    """Return the frames nearest to the times of a given interval, the first frame included."""
    elapsed = (times_us - times_us[0]).astype(np.float64)
    step = 1e6 * interval_s
    tick = np.rint(elapsed / step)
    order = np.lexsort((np.abs(elapsed - tick * step), tick))  # the nearest of each tick first
    spacing = float(np.median(np.diff(elapsed))) if len(elapsed) > 1 else 0.0
    order = order[tick[order] * step <= elapsed[-1] + spacing / 2]  # no tick after the last frame
    _, first = np.unique(tick[order], return_index=True)
    return np.sort(order[first])


def reach_us(times_us: NDArray[np.int64]) -> NDArray[np.float64]:  # (F, 2)
    """Return how much earlier and later than a frame a picture may be to belong to it.

    That is half the time to the neighbouring frames, and at most the greatest age of a picture.
    """
    limit = 1e6 * MAX_CAMERA_AGE_S
    if len(times_us) < 2:
        return np.full((len(times_us), 2), limit)
    gaps = np.diff(times_us) / 2
    sides = np.stack([np.concatenate([gaps[:1], gaps]), np.concatenate([gaps, gaps[-1:]])], 1)
    return np.asarray(np.minimum(sides, limit), dtype=np.float64)


def nearest_picture(
    pictures: CameraPictures,
    time_us: int,
    reach: Sequence[float],  # earlier, later
) -> int | None:
    """Return the index of the picture nearest to a time, or None if none is within reach."""
    after = int(np.searchsorted(pictures.times_us, time_us))
    near = [i for i in (after - 1, after) if 0 <= i < len(pictures)]
    best = min(near, key=lambda i: abs(int(pictures.times_us[i]) - time_us))
    return best if within(int(pictures.times_us[best]) - time_us, reach) else None


def within(
    difference_us: int,
    reach: Sequence[float],  # earlier, later
) -> bool:
    """Return True if a picture belongs to a frame; the end of one reach is the next one's start."""
    return difference_us == 0 or -reach[0] <= difference_us < reach[1]


def _camera_folder(folder: Path) -> CameraPictures:
    files = (p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
    return _in_order(folder.name, [(p.stem, p) for p in files if not p.name.startswith(".")])


def _frame_folders(
    folder: Path, inner: Sequence[Path], cameras: Sequence[RigCamera]
) -> dict[str, CameraPictures]:
    if not inner:
        has_video = any(path.suffix.lower() in VIDEO_SUFFIXES for path in folder.iterdir())
        remedy = ": videos need a table with their start times and frame rates" * has_video
        raise ValueError(
            f"{folder} must hold a folder a camera, a folder a frame, or a table frames.json; got "
            f"no folder and no table{remedy}"
        )
    found: dict[str, list[tuple[str, Path]]] = {camera.name: [] for camera in cameras}
    for frame in inner:
        files = sorted(frame.iterdir())
        by_name = {path.name: path for path in files}
        by_stem = {path.stem: path for path in files if path.suffix.lower() in _SUFFIXES}
        for camera in cameras:
            name = camera.image
            path = by_name.get(name) if name else by_stem.get(camera.name)
            if path is not None:
                found[camera.name].append((frame.name, path))
    if not any(found.values()):
        raise ValueError(
            f"folders in {folder} must be named after cameras of the rig "
            f"({', '.join(found)}), or hold a picture of each; got {inner[0].name!a}"
        )
    return {name: _in_order(name, entries) for name, entries in found.items()}


def _in_order(camera: str, entries: Sequence[tuple[str, Path]]) -> CameraPictures:
    timed = sorted((_time_in_name(name, path), path) for name, path in entries)
    times = np.array([time for time, _ in timed], dtype=np.int64)
    spacing = np.diff(times)
    for index in np.flatnonzero(spacing == 0):
        raise ValueError(
            f"pictures of {camera} must have different times; got {timed[index][1]} and "
            f"{timed[index + 1][1]}"
        )
    if len(times) > 1 and float(np.median(spacing)) < _MIN_SPACING_US:
        raise ValueError(
            f"names of the pictures of {camera} must be times in microseconds; got "
            f"{times[0]} and {times[1]}, which would be {np.median(spacing):g} microseconds apart: "
            "rename them, or list them with their times in frames.json"
        )
    return CameraPictures(times, tuple(path for _, path in timed))


def _time_in_name(name: str, path: Path) -> int:
    found = _TIME.search(name)
    if found is None:
        raise ValueError(
            f"name of a picture or of its frame must end with its time in whole microseconds; got "
            f"{path}: rename it, or list it with its time in frames.json"
        )
    return whole_microseconds(f"time in the name of {path}", int(found.group(1)))
