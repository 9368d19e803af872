"""Reading of samples of a nuScenes-format root as frames."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bevstack.config import Config
from bevstack.datasets.camera_annotations import MIN_POINTS, camera_annotations
from bevstack.datasets.camera_images import load_camera
from bevstack.datasets.camera_rows import camera_rows, camera_sensors
from bevstack.datasets.image_sizes import image_sizes
from bevstack.datasets.preprocess import decoding_reduction
from bevstack.datasets.rig_check import warn_of_rigs
from bevstack.datasets.sample_checks import check_samples
from bevstack.geometry import invert_se3
from bevstack.geometry.bev_grid import FRAMES
from bevstack.tables.calibration import (
    check_calibrations,
    check_class_names,
    ego_from_sensor,
    world_annotations,
    world_from_ego_at,
)
from bevstack.tables.classes import Classes
from bevstack.tables.reader import Tables
from bevstack.tables.splits import scenes_of_split
from bevstack.tables.time_checks import is_stale
from bevstack.times import MAX_CAMERA_AGE_S
from bevstack.types import Annotations, CameraAnnotations, Frame
from bevstack.vocabulary import DETECTION_CLASSES


class NuScenesDataset:
    """Dataset of the samples of given scenes, in the order of the scenes and then of time.

    A sample has its own time, and the ego pose of its LIDAR_TOP key frame. A scene without
    LIDAR_TOP takes the poses of another lidar, or of the camera nearest in time
    (`bevstack.tables.references`). Every camera also has its capture time and the ego pose at that
    time. Cameras are in nuScenes' order; one of an unknown channel comes after them, by name.

    Args:
        root: the folder that holds ``samples/`` and the version's folder, or its open ``Tables``.
        version: the folder of the 13 tables, such as "v1.0-mini".
        scenes: names of scenes. Without scenes and split: all scenes of the version.
        split: an official split, or one of the version's ``splits.json``.
        bev_frame: "ego", or "lidar" for weights trained in the LIDAR_TOP frame; that of another
            lidar where it is the reference.
        class_names: the detection classes whose annotations are kept; labels index into them.
        max_camera_age_s: a camera whose key frame is farther in time from its sample is lost.
        classes: classes of categories that are not nuScenes'; see ``Tables``.

    Raises:
        FileNotFoundError: no such root, version or table.
        ValueError: an unknown scene or split, a dangling token, a calibration that is not finite
            and invertible, a sample without current camera or reference key frame, times that are
            not in microseconds, or the bev frame "lidar" in a scene without lidar.

    Warns:
        ImplausibleRigWarning: a camera cannot be where the tables put it; see ``warn_of_rigs``.
        StaleCameraWarning: a camera is too old or too new for its sample, and counts as lost.
    """

    def __init__(
        self,
        root: Path | str | Tables,
        version: str | None = None,
        *,
        scenes: Sequence[str] | None = None,
        split: str | None = None,
        bev_frame: str = "ego",
        class_names: Sequence[str] = DETECTION_CLASSES,
        max_camera_age_s: float = MAX_CAMERA_AGE_S,
        classes: Classes | Path | str | None = None,
    ) -> None:
        if bev_frame not in FRAMES:
            raise ValueError(f"bev_frame must be one of {', '.join(FRAMES)}; got {bev_frame!r}")
        if scenes is not None and split is not None:
            raise ValueError(f"scenes or split must be given, not both; got {scenes} and {split!r}")
        check_class_names(class_names)
        self.tables = _open(root, version, classes)
        self._has_truth = self.tables.has_annotations
        self.bev_frame = bev_frame
        self.class_names = tuple(class_names)
        self._scene_rows = self.tables.scene_rows(_scene_names(self.tables, scenes, split))
        ordered = [self.tables.samples_of_scene(int(scene)) for scene in self._scene_rows]
        self._selection = np.concatenate([np.empty(0, dtype=np.int64), *ordered])  # sample rows
        self._samples_of_scene = dict(zip(self._scene_rows.tolist(), ordered, strict=True))
        # index of each sample row within its scene
        self._index_in_scene = {int(r): i for rows in ordered for i, r in enumerate(rows)}
        self._reference = self.tables.reference_keyframes(self._selection)
        self.max_camera_age_s = max_camera_age_s
        check_samples(self.tables, self._selection, bev_frame, max_camera_age_s)
        references = self.tables.keyframes.sensor[self._reference]
        used = np.union1d(camera_sensors(self.tables, self._selection), references)
        check_calibrations(self.tables, used)
        warn_of_rigs(self.tables, [rows[0] for rows in ordered if len(rows)])

    def __len__(self) -> int:
        return len(self._selection)

    @property
    def root(self) -> Path:
        """Return the folder that file names are relative to."""
        return self.tables.root

    @property
    def scene_names(self) -> tuple[str, ...]:
        """Return the names of the scenes, in order."""
        return tuple(str(name) for name in self.tables.scenes.name[self._scene_rows])

    def sample_token(self, index: int) -> str:
        """Return the token of a sample."""
        return str(self.tables.samples.token[self._selection[index]])

    def index_of(self, sample_token: str) -> int:
        """Return the index of a sample by its token.

        Raises:
            ValueError: the sample is not in this dataset.
        """
        indices = np.flatnonzero(self._selection == self.tables.sample_row(sample_token))
        if not len(indices):
            raise ValueError(
                f"sample_token must belong to one of the scenes {', '.join(self.scene_names)}; got "
                f"{sample_token!r}, of another scene"
            )
        return int(indices[0])

    def scene_indices(self) -> dict[str, list[int]]:
        """Return the indices of every scene's samples, by scene name, in order of time."""
        scenes: dict[str, list[int]] = {name: [] for name in self.scene_names}
        for index, scene in enumerate(self.tables.samples.scene[self._selection]):
            scenes[str(self.tables.scenes.name[scene])].append(index)
        return scenes

    def select(self, indices: Iterable[int]) -> NuScenesDataset:
        """Return a dataset of the given samples; the rest stay available as neighbours in time."""
        selected = copy.copy(self)
        chosen = np.fromiter(indices, dtype=np.int64)
        selected._selection = self._selection[chosen]
        selected._reference = self._reference[chosen]
        return selected

    def without_annotations(self) -> NuScenesDataset:
        """Return the same samples without true boxes, whose tables are then not read."""
        selected = copy.copy(self)
        selected._has_truth = False
        return selected

    def missing_images(self) -> dict[str, list[str]]:
        """Return the missing image files by sample token; empty if none is missing."""
        missing: dict[str, list[str]] = {}
        names = self.tables.keyframes.filename
        for sample in self._selection:
            files = [str(names[row]) for row in self._cameras(int(sample))]
            absent = [name for name in files if not self.tables.file_path(name).is_file()]
            if absent:
                missing[str(self.tables.samples.token[sample])] = absent
        return missing

    def frame(
        self,
        index: int,
        load_images: bool = True,
        *,
        camera_annotations: bool = False,
        images_for: Config | None = None,
    ) -> Frame:
        """Load one sample.

        Args:
            index: of the sample, from 0.
            load_images: False: load no image, for poses and annotations only; every camera counts
                as lost.
            camera_annotations: also return the boxes that each camera sees, which the perspective
                head learns.
            images_for: if the preprocessing of this configuration shrinks an image enough, decode
                it at a fraction of its size and adapt intrinsics and boxes
                (``decoding_reduction``). Its ``perspective.min_points`` filters the cameras'
                boxes. None: images at full size, boxes of three points or more.

        Raises:
            FileNotFoundError: an image file is missing.
            ValueError: an image is truncated, or its size differs from the table.
        """
        sample = int(self._selection[index])
        reductions = self._reductions(sample, images_for)
        frame = self._frame(sample, load_images, True, reductions)
        if not camera_annotations or frame.annotations is None:
            return frame
        perspective = None if images_for is None else images_for.perspective
        camera_boxes = self._camera_annotations(
            sample,
            frame,
            reductions,
            min_points=MIN_POINTS if perspective is None else perspective.min_points,
        )
        return replace(frame, camera_annotations=camera_boxes)

    def neighbour(
        self,
        index: int,
        offset: int,
        load_images: bool = True,
        *,
        annotated: bool = True,
        images_for: Config | None = None,
    ) -> Frame | None:
        """Load the sample ``offset`` key frames later in the same scene (earlier if negative).

        Return None if the scene has no such sample. With ``annotated=False``, leave out its boxes.
        Images are loaded as by ``frame``.

        Raises:
            FileNotFoundError: an image file is missing.
            ValueError: an image is truncated, or its size differs from the table.
        """
        sample = int(self._selection[index])
        rows = self._samples_of_scene[int(self.tables.samples.scene[sample])]
        position = self._index_in_scene[sample] + offset
        if not 0 <= position < len(rows):
            return None
        neighbour = int(rows[position])
        reductions = self._reductions(neighbour, images_for)
        return self._frame(neighbour, load_images, annotated, reductions)

    def _frame(
        self,
        sample: int,
        load_images: bool,
        annotated: bool,
        reductions: NDArray[np.int64],  # (N,)
    ) -> Frame:
        keyframes = self.tables.keyframes
        cameras = self._cameras(sample)
        sensors = keyframes.sensor[cameras]
        reference = self.tables.reference_keyframes(np.array([sample]))
        world_from_ego = world_from_ego_at(self.tables, reference)[0]
        bev_from_ego = self._bev_from_ego(reference)
        stale = is_stale(self.tables, cameras, self.max_camera_age_s).tolist()
        loaded = [
            load_camera(self.tables, row, reduction, load_image=load_images and not old)
            for row, reduction, old in zip(
                cameras.tolist(), reductions.tolist(), stale, strict=True
            )
        ]
        return Frame(
            images=[image for image, _ in loaded],
            intrinsics=torch.stack([intrinsics for _, intrinsics in loaded]),
            ego_from_cam=ego_from_sensor(self.tables, sensors),
            rig_checked=True,  # when the data set was opened
            camera_names=tuple(str(c) for c in self.tables.calibrated_sensors.channel[sensors]),
            timestamp_us=int(self.tables.samples.timestamp_us[sample]),
            camera_timestamp_us=tuple(int(t) for t in keyframes.timestamp_us[cameras]),
            world_from_ego=world_from_ego,
            world_from_ego_at_camera=world_from_ego_at(self.tables, cameras),
            bev_from_ego=bev_from_ego,
            sample_token=str(self.tables.samples.token[sample]),
            scene_token=str(self.tables.scenes.token[self.tables.samples.scene[sample]]),
            annotations=self._annotations(sample, bev_from_ego @ invert_se3(world_from_ego))
            if annotated
            else None,
            max_camera_age_s=self.max_camera_age_s,
        )

    def _cameras(self, sample: int) -> NDArray[np.int64]:
        return camera_rows(self.tables, sample)

    def _reductions(self, sample: int, images_for: Config | None) -> NDArray[np.int64]:  # (N,)
        """Return the decoding reduction of each of a sample's images."""
        cameras = self._cameras(sample)
        if images_for is None:
            return np.ones(len(cameras), dtype=np.int64)
        sizes = image_sizes(self.tables, cameras).tolist()
        images, augmentation = images_for.images, images_for.augmentation
        reductions = [decoding_reduction((h, w), images, augmentation) for h, w in sizes]
        return np.array(reductions, dtype=np.int64)

    def _bev_from_ego(
        self,
        reference: NDArray[np.int32],  # (1,)
    ) -> Tensor:  # (4, 4)
        if self.bev_frame == "ego":
            return torch.eye(4, dtype=torch.float64)
        sensor = self.tables.keyframes.sensor[reference]
        return invert_se3(ego_from_sensor(self.tables, sensor)[0])

    def _annotations(
        self,
        sample: int,
        bev_from_world: Tensor,  # (4, 4)
    ) -> Annotations | None:
        if not self._has_truth or not len(self.tables.annotations.token):
            return None  # a test version, whose annotations are withheld
        annotations = world_annotations(self.tables, sample, self.class_names)
        annotations = annotations.transformed(bev_from_world)  # in float64, before rounding
        boxes = annotations.boxes.to(torch.float32)
        return Annotations(boxes, annotations.labels, annotations.num_points)

    def _camera_annotations(
        self,
        sample: int,
        frame: Frame,
        reductions: NDArray[np.int64],  # (N,)
        *,
        min_points: int,
    ) -> tuple[CameraAnnotations, ...]:  # N
        """Return the boxes that each camera of a frame sees; its images need not be loaded."""
        size = image_sizes(self.tables, self._cameras(sample)) // reductions[:, None]
        assert frame.world_from_ego_at_camera is not None  # set in _frame
        return camera_annotations(
            self.tables,
            sample,
            self.class_names,
            cam_from_world=invert_se3(frame.world_from_ego_at_camera @ frame.ego_from_cam),
            intrinsics=frame.intrinsics,
            image_size=torch.from_numpy(size),
            min_points=min_points,
        )


def _open(
    root: Path | str | Tables, version: str | None, classes: Classes | Path | str | None
) -> Tables:
    if not isinstance(root, Tables):
        return Tables(root, version or "", classes=classes)
    if classes is not None:
        raise ValueError("classes must be given to Tables, not with open tables; got both")
    return root


def _scene_names(
    tables: Tables, scenes: Sequence[str] | None, split: str | None
) -> tuple[str, ...]:
    if split is not None:
        return scenes_of_split(tables, split)
    if scenes is not None:
        return scenes_of_split(tables, list(scenes))
    return tuple(str(name) for name in tables.scenes.name)
