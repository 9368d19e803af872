"""Images of the front camera between the key frames of a scene, as frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from bevstack.datasets.images import read_image, read_size
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.tables.calibration import lens_of_sensor, world_from_ego_at
from bevstack.types import Frame


@dataclass(frozen=True)
class FrontSweeps:
    """Rows of a scene's front images between its key frames, in order of time."""

    dataset: NuScenesDataset
    rows: NDArray[np.int64]  # (S,) of ``Tables.sweeps``

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def between(self, start_us: int, end_us: int, *, skip_missing: bool = False) -> Iterator[Frame]:
        """Yield the frames whose time lies in [start, end), in order of time.

        Each has all cameras of the nearest key frame, all lost but the front one, its own time and
        pose, and no sample token.

        Args:
            start_us: first time.
            end_us: end of the times.
            skip_missing: leave out images whose file is missing.

        Raises:
            FileNotFoundError: an image file is missing.
            ValueError: an image is damaged.
        """
        times_us = self.dataset.tables.sweeps.timestamp_us[self.rows]
        for row in self.rows[(times_us >= start_us) & (times_us < end_us)]:
            name = str(self.dataset.tables.sweeps.filename[row])
            if not skip_missing or self.dataset.tables.file_path(name).is_file():
                yield self._frame(int(row))

    def _frame(self, row: int) -> Frame:
        tables = self.dataset.tables
        sweeps = tables.sweeps
        token = str(tables.samples.token[sweeps.sample[row]])
        key = self.dataset.frame(self.dataset.index_of(token), load_images=False)
        sensor = int(sweeps.sensor[row])
        camera = key.camera_names.index(str(tables.calibrated_sensors.channel[sensor]))
        path = tables.file_path(str(sweeps.filename[row]))
        height, width = sweeps.size[row].tolist()
        size = (height, width) if height and width else read_size(path)
        image, intrinsics = read_image(path, size), key.intrinsics.clone()
        lens = lens_of_sensor(tables, sensor)
        if lens is not None:
            given = torch.from_numpy(tables.calibrated_sensors.intrinsics[sensor].copy())
            undistorted, intrinsics[camera] = lens.undistort(image, given, size)
            assert undistorted is not None  # an image was given
            image = undistorted
        images: list[NDArray[np.uint8] | None] = [None] * key.num_cameras
        images[camera] = image
        time_us = int(sweeps.timestamp_us[row])
        return replace(
            key,
            images=images,
            intrinsics=intrinsics,
            camera_mask=None,
            timestamp_us=time_us,
            camera_timestamp_us=(time_us,) * key.num_cameras,
            world_from_ego=world_from_ego_at(tables, np.array([row]), sweeps)[0],
            world_from_ego_at_camera=None,
            sample_token="",
            annotations=None,
        )


def front_sweeps(dataset: NuScenesDataset, indices: Sequence[int]) -> FrontSweeps:
    """Return the images between the key frames of a scene from the camera that looks ahead.

    Args:
        dataset: the data set.
        indices: of the scene's samples.

    Raises:
        ValueError: the camera that looks ahead has no image between the key frames.
    """
    tables = dataset.tables
    key = dataset.frame(indices[0], load_images=False)
    axes = key.ego_from_cam[:, :2, 2]
    camera = int(torch.atan2(axes[:, 1], axes[:, 0]).abs().argmin())
    channel = key.camera_names[camera]
    samples = [tables.sample_row(dataset.sample_token(index)) for index in indices]
    sweeps = tables.sweeps
    chosen = np.isin(sweeps.sample, samples)
    chosen &= tables.calibrated_sensors.channel[sweeps.sensor] == channel
    rows = np.flatnonzero(chosen)
    if not len(rows):
        raise ValueError(
            f"{channel} must have images between the key frames of the scene; got none in "
            f"{tables.root}: take a world of `bevstack make-world --preset lights`, whose test "
            "scenes have them, or predict key frames alone"
        )
    order = np.argsort(sweeps.timestamp_us[rows], kind="stable")
    return FrontSweeps(dataset, rows[order])
