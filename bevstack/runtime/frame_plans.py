"""Plans of the frames of a drive: which picture of each camera belongs to which frame."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from bevstack.file_names import path_inside
from bevstack.runtime.frames_table import FramesTable, ListedFrame, ListedImage, ListedVideo
from bevstack.runtime.picture_times import (
    CameraPictures,
    choose_times,
    frame_times,
    nearest_picture,
    reach_us,
    within,
)
from bevstack.runtime.pose_track import PoseTrack

VIDEO_INTERVAL_S = 0.5  # between the frames of videos without a list of frames, as in nuScenes


class PlannedPicture(NamedTuple):
    """Picture of a camera in a frame."""

    source: Path | int  # an image file, or the number of a picture in the camera's video
    timestamp_us: int
    world_from_ego: Tensor | None = None  # (4, 4) at the picture's time; None: the frame's


class FramePlan(NamedTuple):
    """Frame whose pictures are not read yet."""

    timestamp_us: int
    world_from_ego: Tensor | None  # (4, 4)
    pictures: Mapping[str, PlannedPicture]  # by camera; the remaining cameras are lost


@dataclass(frozen=True, kw_only=True)
class DriveFiles:
    """Pictures and videos of a drive, with the table that lists them."""

    folder: Path
    table: FramesTable | None  # None: times are those in the names of the pictures
    pictures: Mapping[str, CameraPictures]  # found below the folder, by camera
    cameras: tuple[str, ...]  # names of those that are not lost in all frames
    allow_outside: bool = False  # the table may name files outside of the folder
    skip_missing: bool = False  # a camera whose listed image is missing is lost in that frame

    @property
    def videos(self) -> Mapping[str, ListedVideo]:
        """Return the videos by camera."""
        videos = {} if self.table is None else self.table.videos
        return {name: video for name, video in videos.items() if name in self.cameras}

    @property
    def listed(self) -> Sequence[ListedFrame]:
        """Return the frames of the table; none without a table or list."""
        return () if self.table is None or self.table.frames is None else self.table.frames

    @property
    def lists_frames(self) -> bool:
        """Return False if only videos are given, so that an interval decides the times."""
        return self.table is None or self.table.frames is not None

    def path(self, camera: str, name: str) -> Path:
        """Return the path of a file that the table names.

        Raises:
            ValueError: the file lies outside of the folder.
        """
        what = f"file of camera {camera!a}"
        return path_inside(self.folder, name, what=what, allow_outside=self.allow_outside)

    def plans(self, interval_s: float | None, times_us: set[int] | None) -> Iterable[FramePlan]:
        """Return the frames in order of time, those of videos alone without an end.

        Args:
            interval_s: time from frame to frame; None: all frames.
            times_us: plan only the frames of these times; None: all.
        """
        if not self.lists_frames:
            return self._video_plans(interval_s or VIDEO_INTERVAL_S, times_us)
        listed = self.listed or [
            ListedFrame(timestamp_us=time) for time in frame_times(self.pictures).tolist()
        ]
        if times_us is not None:
            listed = [frame for frame in listed if frame.timestamp_us in times_us]
        times = np.array([frame.timestamp_us for frame in listed], dtype=np.int64)
        if interval_s is not None and listed:
            chosen = choose_times(times, interval_s).tolist()
            listed, times = [listed[index] for index in chosen], times[chosen]
        pairs = zip(listed, reach_us(times).tolist(), strict=True)
        return (self._plan(frame, reach) for frame, reach in pairs)

    def _video_plans(self, interval_s: float, times_us: set[int] | None) -> Iterator[FramePlan]:
        if times_us is not None:
            times = np.array(sorted(times_us), dtype=np.int64)
            for time_us, reach in zip(times.tolist(), reach_us(times).tolist(), strict=True):
                yield self._plan(ListedFrame(timestamp_us=time_us), reach)
            return
        start = max(video.start_us for video in self.videos.values())
        half = 0.5e6 * interval_s
        for number in itertools.count():
            time_us = start + round(1e6 * interval_s * number)
            yield self._plan(ListedFrame(timestamp_us=time_us), (half, half))

    @cached_property
    def _track(self) -> PoseTrack:
        posed = [(frame.timestamp_us, frame.world_from_ego) for frame in self.listed]
        times = np.array([time_us for time_us, _ in posed], dtype=np.int64)
        return PoseTrack(times, [pose for _, pose in posed if pose is not None])

    def _plan(self, frame: ListedFrame, reach: Sequence[float]) -> FramePlan:
        found = {name: self._picture(name, frame, reach) for name in self.cameras}
        pictures = {name: picture for name, picture in found.items() if picture is not None}
        if frame.world_from_ego is not None:
            pictures = {
                name: picture
                if picture.world_from_ego is not None or picture.timestamp_us == frame.timestamp_us
                else picture._replace(world_from_ego=self._track.at(picture.timestamp_us))
                for name, picture in pictures.items()
            }
        return FramePlan(frame.timestamp_us, frame.world_from_ego, pictures)

    def _picture(
        self, name: str, frame: ListedFrame, reach: Sequence[float]
    ) -> PlannedPicture | None:
        time_us = frame.timestamp_us
        if frame.cameras is not None and name in frame.cameras:
            return self._listed_picture(name, frame.cameras[name], time_us)
        if name in self.videos:
            index = self.videos[name].nearest(time_us)
            own_us = self.videos[name].time_us(index)
            return PlannedPicture(index, own_us) if within(own_us - time_us, reach) else None
        if frame.cameras is not None or name not in self.pictures:
            return None
        pictures = self.pictures[name]
        row = nearest_picture(pictures, time_us, reach)
        if row is None:
            return None
        return PlannedPicture(pictures.paths[row], int(pictures.times_us[row]))

    def _listed_picture(
        self, name: str, image: ListedImage | None, time_us: int
    ) -> PlannedPicture | None:
        if image is None:
            return None
        path = self.path(name, image.image)
        if self.skip_missing and not path.exists():
            return None
        own_us = time_us if image.timestamp_us is None else image.timestamp_us
        return PlannedPicture(path, own_us, image.world_from_ego)
