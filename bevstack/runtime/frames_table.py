"""Tables of frames: the file ``frames.json``, with the times, poses and pictures of a drive.

A table is one JSON object::

    {
      "format": "bevstack-frames-1",
      "frames": [
        {
          "timestamp_us": 1700000000000000,
          "world_from_ego": {"rotation_wxyz": [1, 0, 0, 0], "translation_m": [12.5, 3.0, 0.0]},
          "cameras": {
            "CAM_FRONT": "CAM_FRONT/1700000000000000.jpg",
            "CAM_BACK": {"image": "back/17.png", "timestamp_us": 1700000000010000},
            "CAM_FRONT_LEFT": null
          }
        }
      ],
      "videos": {"CAM_FRONT_RIGHT": {"file": "front_right.mp4", "start_us": 1700000000000000,
                                     "fps": 12.0}}
    }

Optional: ``world_from_ego``; ``cameras`` (otherwise pictures are found by their times); a camera's
own ``timestamp_us`` and ``world_from_ego``; ``videos``; ``frames``, if every camera has a video.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from bevstack.json_files import (
    expect_integer,
    expect_list,
    expect_number,
    expect_object,
    expect_text,
    read_json,
    shorten,
)
from bevstack.runtime.rig_fields import check_fields, read_pose
from bevstack.times import differing_unit, whole_microseconds
from bevstack.types.moments import Moment, check_unit

FRAMES_FORMAT = "bevstack-frames-1"
TABLE_NAME = "frames.json"
_MAX_BYTES = 1 << 25  # 40,000 frames with six named images, 150,000 without
_MAX_FPS = 1000.0


@dataclass(frozen=True, kw_only=True)
class ListedImage:
    """Image file of a camera in one frame of a table."""

    image: str  # relative to the table's folder
    timestamp_us: int | None = None  # None: the frame's
    world_from_ego: Tensor | None = None  # (4, 4) at the camera's own time


@dataclass(frozen=True, kw_only=True)
class ListedFrame:
    """Frame of a table."""

    timestamp_us: int
    world_from_ego: Tensor | None = None  # (4, 4)
    # by camera, None for a lost one; None: find the pictures by their times
    cameras: Mapping[str, ListedImage | None] | None = None


@dataclass(frozen=True, kw_only=True)
class ListedVideo:
    """Video of a camera in a table."""

    file: str  # relative to the table's folder
    start_us: int  # time of the first picture
    fps: float  # pictures a second

    def time_us(self, index: int) -> int:
        """Return the time of a picture, the first one being 0."""
        return self.start_us + round(index * 1e6 / self.fps)

    def nearest(self, time_us: int) -> int:
        """Return the picture nearest in time, of those from the first one on."""
        return max(0, round((time_us - self.start_us) * 1e-6 * self.fps))


@dataclass(frozen=True, kw_only=True)
class FramesTable:
    """Content of a table of frames."""

    frames: tuple[ListedFrame, ...] | None  # in order of time; None: as the videos give them
    videos: Mapping[str, ListedVideo]  # by camera


def read_frames_table(path: Path | str, cameras: Collection[str]) -> FramesTable:
    """Read a table of frames of a rig with the given cameras.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON; a field is unknown, missing or of another kind; a camera
            is not in the rig; times do not ascend or are not in microseconds; some frames have a
            pose and some have none. The message names the frame.
    """
    path = Path(path)
    values = read_json(path, "table of frames", max_bytes=_MAX_BYTES)
    known = ("format", "frames", "videos")
    check_fields(str(path), values, known, required=("format",))
    if values["format"] != FRAMES_FORMAT:
        raise ValueError(
            f"{path}: format must be {FRAMES_FORMAT!r}; got {shorten(values['format'])}"
        )
    videos = _videos(path, values.get("videos", {}), cameras)
    entries = values.get("frames")
    if entries is None and set(videos) != set(cameras):
        missing = [name for name in cameras if name not in videos]
        raise ValueError(
            f"{path} must list 'frames', unless every camera has a video; got no frames and no "
            f"video of {missing[0]}"
        )
    frames = None if entries is None else _frames(path, entries, cameras)
    if frames is not None:
        _check_times(path, frames, videos)
    return FramesTable(frames=frames, videos=MappingProxyType(videos))


def _check_all_posed(name: str, frames: tuple[ListedFrame, ...]) -> None:
    """Check that all frames have a pose or none has one.

    Raises:
        ValueError: some have a pose; the message names the first frame without one.
    """
    absent = [frame.timestamp_us for frame in frames if frame.world_from_ego is None]
    if absent and len(absent) < len(frames):
        raise ValueError(
            f"{name} must have world_from_ego in every frame, or in none; got none in "
            f"{len(absent)} of {len(frames)}, first in the frame at {absent[0]}"
        )


def _frames(path: Path, entries: Any, cameras: Collection[str]) -> tuple[ListedFrame, ...]:
    entries = expect_list(f"frames of {path}", entries)
    if not entries:
        raise ValueError(f"frames of {path} must hold at least one frame; got none")
    frames = tuple(
        _frame(f"frame {number} of {path}", entry, cameras) for number, entry in enumerate(entries)
    )
    _check_all_posed(str(path), frames)
    return frames


def _frame(where: str, values: Any, cameras: Collection[str]) -> ListedFrame:
    known = ("timestamp_us", "world_from_ego", "cameras")
    check_fields(where, values, known, required=("timestamp_us",))
    pose, images = values.get("world_from_ego"), values.get("cameras")
    if images is not None:
        images = {
            name: _image(f"{where}: camera {shorten(name)}", image)
            for name, image in expect_object(f"{where}: cameras", images).items()
        }
        _check_names(where, images, cameras)
        if pose is None and any(
            i is not None and i.world_from_ego is not None for i in images.values()
        ):
            raise ValueError(
                f"{where} must have world_from_ego, since one of its cameras has one; got none"
            )
    return ListedFrame(
        timestamp_us=_time(f"{where}: timestamp_us", values["timestamp_us"]),
        world_from_ego=None if pose is None else read_pose(f"{where}: world_from_ego", pose),
        cameras=images,
    )


def _image(where: str, values: Any) -> ListedImage | None:
    if values is None:
        return None
    if isinstance(values, str):
        return ListedImage(image=expect_text(where, values))
    known = ("image", "timestamp_us", "world_from_ego")
    check_fields(where, values, known, required=("image",))
    time_us, pose = values.get("timestamp_us"), values.get("world_from_ego")
    return ListedImage(
        image=expect_text(f"{where}: image", values["image"]),
        timestamp_us=None if time_us is None else _time(f"{where}: timestamp_us", time_us),
        world_from_ego=None if pose is None else read_pose(f"{where}: world_from_ego", pose),
    )


def _videos(path: Path, values: Any, cameras: Collection[str]) -> dict[str, ListedVideo]:
    videos = {}
    for name, entry in expect_object(f"videos of {path}", values).items():
        where = f"video of {shorten(name)} in {path}"
        known = ("file", "start_us", "fps")
        check_fields(where, entry, known, required=known)
        fps = expect_number(f"{where}: fps", entry["fps"])
        if not (0 < fps <= _MAX_FPS and math.isfinite(fps)):
            raise ValueError(
                f"{where}: fps must be above 0 and at most {_MAX_FPS:g} pictures a second; got "
                f"{shorten(entry['fps'])}"
            )
        videos[name] = ListedVideo(
            file=expect_text(f"{where}: file", entry["file"]),
            start_us=_time(f"{where}: start_us", entry["start_us"]),
            fps=fps,
        )
    _check_names(str(path), videos, cameras)
    return videos


def _time(where: str, value: Any) -> int:
    return whole_microseconds(where, expect_integer(where, value, low=0))


def _check_names(where: str, names: Collection[str], cameras: Collection[str]) -> None:
    for name in names:
        if name not in cameras:
            raise ValueError(
                f"{where}: camera must be one of the rig's, {', '.join(cameras)}; got "
                f"{shorten(name)}"
            )


def _check_times(
    path: Path, frames: tuple[ListedFrame, ...], videos: Mapping[str, ListedVideo]
) -> None:
    for number, (before, frame) in enumerate(itertools.pairwise(frames), start=1):
        if frame.timestamp_us <= before.timestamp_us:
            raise ValueError(
                f"timestamp_us of {path} must ascend from frame to frame; got "
                f"{frame.timestamp_us} in frame {number} after {before.timestamp_us}"
            )
    moments = [Moment(f.timestamp_us, f.world_from_ego, str(f.timestamp_us), "") for f in frames]
    try:
        check_unit(moments)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for name, video in videos.items():
        unit = differing_unit(video.start_us, frames[0].timestamp_us)
        if unit is not None:
            raise ValueError(
                f"video of {name!r} in {path}: start_us and the frames' times must both be in "
                f"microseconds; got {video.start_us} and {frames[0].timestamp_us}, one of them in "
                f"{unit}"
            )


__all__ = [
    "FRAMES_FORMAT",
    "TABLE_NAME",
    "FramesTable",
    "ListedFrame",
    "ListedImage",
    "ListedVideo",
    "read_frames_table",
]
