"""Frames of a drive with your own cameras: from folders of pictures, videos, or a table of both."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.datasets.images import read_image, read_size
from bevstack.runtime.frame_plans import DriveFiles, FramePlan
from bevstack.runtime.frames_table import TABLE_NAME, FramesTable, read_frames_table
from bevstack.runtime.picture_times import VIDEO_SUFFIXES, find_pictures, frame_times
from bevstack.runtime.rig import Rig, RigCamera, assemble_frame, read_rig
from bevstack.runtime.video import VideoReader, check_video_file
from bevstack.types import Frame
from bevstack.types.moments import Moment, check_unit

_INTERVALS_S = (1e-3, 3600.0)


@dataclass(frozen=True)
class FrameSource:
    """Source of the frames of one drive; ``open_frames`` returns one.

    A picture is read when its frame is asked for, so the memory does not grow with the pictures.

    Example:
        >>> source = open_frames("rig.json", "drive")
        >>> stream = detector.stream()
        >>> for frame in source.frames(interval_s=0.5):
        ...     detections = stream.step(frame)
    """

    rig: Rig
    files: DriveFiles

    @property
    def has_poses(self) -> bool:
        """Return True if each frame has the pose of the vehicle."""
        listed = self.files.listed
        return bool(listed) and listed[0].world_from_ego is not None

    def frames(
        self, *, interval_s: float | None = None, times_us: Collection[int] | None = None
    ) -> Iterator[Frame]:
        """Yield the frames in order of time; their ``sample_token`` is the time.

        A camera without a picture of a frame is lost in it. Frames without any picture are left
        out, with a warning at the end.

        Args:
            interval_s: time from frame to frame; frames in between are left out. None: all frames;
                of videos without a list of frames, one each 0.5 s.
            times_us: yield only the frames of these times.

        Raises:
            FileNotFoundError: a picture or video does not exist any more.
            ValueError: the interval is not from 0.001 to 3600 s, no frame has a picture, or a
                picture or video is damaged or not of the rig's size; the message names the file.

        Warns:
            UserWarning: a video ends before the frames do, or frames are left out.
        """
        low, high = _INTERVALS_S
        if interval_s is not None and not low <= interval_s <= high:
            raise ValueError(f"interval must be from {low:g} to {high:g} s; got {interval_s}")
        return self._frames(interval_s, None if times_us is None else set(times_us))

    def _frames(self, interval_s: float | None, times_us: set[int] | None) -> Iterator[Frame]:
        without: list[int] = []
        count = 0
        with contextlib.ExitStack() as stack:
            videos = {
                name: stack.enter_context(self._open_video(name)) for name in self.files.videos
            }
            running = dict(videos)
            for plan in self.files.plans(interval_s, times_us):
                images = self._read(plan, videos)
                has_picture = any(image is not None for image in images)
                running = _without_ended(running, plan.timestamp_us, has_picture)
                if has_picture:
                    count += 1
                    yield self._frame(plan, images)
                elif self.files.lists_frames:
                    without.append(plan.timestamp_us)
                elif _all_ended(videos):
                    break
        if not count:
            raise ValueError(
                f"at least one frame of {self.files.folder} must have a picture; got none: check "
                "the times of frames, pictures and videos"
            )
        if without:
            warnings.warn(
                f"{len(without)} frames without a picture of any camera are left out, first the "
                f"frame at {without[0]}",
                stacklevel=2,
            )

    def _open_video(self, name: str) -> VideoReader:
        video = self.files.videos[name]
        camera = next(camera for camera in self.rig.cameras if camera.name == name)
        path = self.files.path(name, video.file)
        return VideoReader(path, name, image_size=camera.image_size, fps=video.fps)

    def _read(
        self, plan: FramePlan, videos: Mapping[str, VideoReader]
    ) -> list[NDArray[np.uint8] | None]:  # N
        images: list[NDArray[np.uint8] | None] = []
        for camera in self.rig.cameras:
            picture = plan.pictures.get(camera.name)
            if picture is None:
                images.append(None)
            elif isinstance(picture.source, Path):
                images.append(_read_picture(picture.source, camera))
            else:
                images.append(videos[camera.name].picture(picture.source))
        return images

    def _frame(self, plan: FramePlan, images: Sequence[NDArray[np.uint8] | None]) -> Frame:
        cameras = tuple(
            replace(
                camera,
                timestamp_us=None if image is None else plan.pictures[camera.name].timestamp_us,
            )
            for camera, image in zip(self.rig.cameras, images, strict=True)
        )
        return assemble_frame(
            Rig(
                cameras=cameras,
                timestamp_us=plan.timestamp_us,
                world_from_ego=plan.world_from_ego,
            ),
            images,
            world_from_ego_at_camera=_camera_poses(plan, [camera.name for camera in cameras]),
            sample_token=str(plan.timestamp_us),
        )


def open_frames(
    rig: Rig | Path | str,
    source: Path | str,
    *,
    lost: Collection[str] = (),
    allow_outside: bool = False,
    skip_missing: bool = False,
) -> FrameSource:
    """Open the frames of a drive and check all but the pictures themselves.

    Args:
        rig: the calibration of the cameras. Its own time and pose are not used.
        source: a table ``frames.json``, a folder that holds one, or a folder of pictures: one
            sub-folder a camera with times as names, or one sub-folder a frame.
        lost: cameras without a picture in all frames, besides those that the rig marks as lost.
        allow_outside: the table is trusted, and may name files outside of its folder.
        skip_missing: a camera whose listed image file is missing is lost in that frame.

    Raises:
        FileNotFoundError: the rig, the source, or a file that the table names is missing.
        ValueError: a file does not have its format, a name is not a time, a camera is unknown or
            has no picture at all, or times do not ascend or are not in microseconds.
    """
    rig = rig if isinstance(rig, Rig) else read_rig(rig)
    cameras = _working_cameras(rig, lost)
    source = Path(source)
    if source.suffix.lower() in VIDEO_SUFFIXES and not source.is_dir():
        raise ValueError(
            f"frames must be given as a folder or a table; got the video {source}: name it in a "
            f"table {TABLE_NAME} with its camera, start time and frame rate"
        )
    path = source / TABLE_NAME if source.is_dir() else source
    names = [camera.name for camera in rig.cameras]
    table = None if source.is_dir() and not path.exists() else read_frames_table(path, names)
    folder = source if source.is_dir() else source.parent
    sought = [name for name in cameras if _is_sought(name, table)]
    pictures = find_pictures(folder, rig.cameras) if sought else {}
    for name in sought:
        if name not in pictures:
            raise ValueError(
                f"{folder} must hold pictures of camera {name}; got none, but pictures of "
                f"{', '.join(sorted(pictures)) or 'no camera'}: if it is lost, add --lost {name}"
            )
    files = DriveFiles(
        folder=folder,
        table=table,
        pictures={name: pictures[name] for name in sought},
        cameras=cameras,
        allow_outside=allow_outside,
        skip_missing=skip_missing,
    )
    _check_files(files)
    return FrameSource(rig, files)


def _working_cameras(rig: Rig, lost: Collection[str]) -> tuple[str, ...]:
    names = [camera.name for camera in rig.cameras]
    for name in lost:
        if name not in names:
            raise ValueError(f"lost camera must be one of {', '.join(names)}; got {name!r}")
    working = tuple(c.name for c in rig.cameras if not c.lost and c.name not in lost)
    if not working:
        raise ValueError(f"at least one camera must have an image; got {names}, all lost")
    return working


def _is_sought(name: str, table: FramesTable | None) -> bool:
    """Return True if the pictures of a camera are found by the times in their names."""
    if table is None:
        return True
    return name not in table.videos and any(f.cameras is None for f in table.frames or ())


def _check_files(files: DriveFiles) -> None:
    """Check that named files exist, and the unit of times in names."""
    if files.table is None:
        times = frame_times(files.pictures).tolist()
        check_unit([Moment(time, None, str(time), "") for time in times])
        return
    for name, video in files.videos.items():
        check_video_file(files.path(name, video.file), name)
    named = (
        (frame.timestamp_us, name, files.path(name, image.image))
        for frame in files.listed
        for name, image in (frame.cameras or {}).items()
        if image is not None and name in files.cameras
    )
    missing = [entry for entry in named if not entry[2].exists()]
    if missing and not files.skip_missing:
        time, name, path = missing[0]
        raise FileNotFoundError(
            f"images of every frame must exist; got {len(missing)} missing, first {path} of camera "
            f"{name} in the frame at {time}: give null for a camera without an image, or let such "
            "cameras count as lost with --skip-missing (skip_missing=True)"
        )


def _without_ended(
    videos: Mapping[str, VideoReader], time_us: int, has_picture: bool
) -> dict[str, VideoReader]:
    """Return the videos that have not ended; warn of those that ended before the remaining frames.

    If no camera has a picture, the drive may be over, and only a damaged video is worth a warning.
    """
    running = {}
    for name, video in videos.items():
        if video.num_pictures is None:
            running[name] = video
        elif has_picture or video.is_short():
            warnings.warn(
                f"camera {name} counts as lost from the frame at {time_us} on: its video "
                f"{video.path} {video.describe_end()}",
                stacklevel=3,
            )
        else:
            running[name] = video  # until another camera has a picture
    return running


def _read_picture(path: Path, camera: RigCamera) -> NDArray[np.uint8]:
    size = read_size(path)
    if size != camera.image_size:
        height, width = camera.image_size
        raise ValueError(
            f"{path} must be {width}x{height} pixels, as in the rig file; got {size[1]}x{size[0]}: "
            "intrinsics are valid for one size only"
        )
    return read_image(path, size)


def _all_ended(videos: Mapping[str, VideoReader]) -> bool:
    return all(video.num_pictures is not None for video in videos.values())


def _camera_poses(plan: FramePlan, names: Sequence[str]) -> Tensor | None:  # (N, 4, 4)
    """Return the pose at each camera's time: that of the frame for those without their own."""
    own = {name: picture.world_from_ego for name, picture in plan.pictures.items()}
    if plan.world_from_ego is None or all(pose is None for pose in own.values()):
        return None
    poses = [own.get(name) for name in names]
    return torch.stack([plan.world_from_ego if pose is None else pose for pose in poses])
