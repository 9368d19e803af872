"""Samples of the traffic view of a data set, prepared as model input with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config import Config, ImageConfig
from bevstack.config.traffic import TrafficConfig
from bevstack.datasets.camera_images import load_camera
from bevstack.datasets.camera_rows import camera_rows
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.traffic_view.augmentation import (
    TrafficAugmentation,
    draw_colors,
    mirror_camera,
    mirror_targets,
    swap_sides,
)
from bevstack.datasets.traffic_view.front_view import (
    Crop,
    FrontCamera,
    choose_front_cameras,
    normalise,
    path_of_motion,
    whole_crop,
)
from bevstack.datasets.traffic_view.labels import ElementIndex, label_image
from bevstack.geometry import invert_se3
from bevstack.tables.calibration import ego_from_sensor, world_from_ego_at
from bevstack.tables.time_checks import is_stale
from bevstack.types.traffic_batch import (
    BOX_KINDS,
    LAMP_ONLY,
    TrafficBatch,
    TrafficTargets,
    TrafficViews,
)


@dataclass(frozen=True)
class TrafficSample:
    """The front cameras of one sample as model input, with labels."""

    images: tuple[Tensor, ...]  # each (3, H, W) float32
    cameras: tuple[FrontCamera, ...]  # calibrations of the views; their images are empty
    image_from_view: tuple[Tensor, ...]  # each (4,)
    ego_motion: Tensor  # (3,)
    targets: TrafficTargets  # ``image`` counts from 0 in this sample
    sample_token: str
    # (M, len(BOX_KINDS)) bool, kinds whose every visible element has a label; None: lights and
    # signs, and lamps in images that have a lamp's box
    labelled: Tensor | None = None


class FrontSamples:
    """Front cameras and labels of the samples of a data set.

    Args:
        dataset: the samples.
        index: their labels; None: samples without labels.
        config: the traffic section.
        images: normalisation.
    """

    def __init__(
        self,
        dataset: NuScenesDataset,
        index: ElementIndex | None,
        *,
        config: TrafficConfig,
        images: ImageConfig,
    ) -> None:
        self.dataset = dataset
        self.index = index
        self.config = config
        self.images = images

    @staticmethod
    def open(dataset: NuScenesDataset, config: Config) -> FrontSamples:
        """Open the labels beside the tables of a data set.

        Raises:
            FileNotFoundError: it has no table of lights and signs.
            ValueError: the configuration has no traffic section, or a table cannot be read.
        """
        if config.traffic is None:
            raise ValueError(f"configuration must have the section traffic; got {config.name}")
        index = ElementIndex.read(dataset.tables.folder)
        return FrontSamples(dataset, index, config=config.traffic, images=config.images)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.dataset)

    def token(self, index: int) -> str:
        """Return the token of a sample."""
        return self.dataset.sample_token(index)

    def prepare(self, index: int, augmentation: TrafficAugmentation | None = None) -> TrafficSample:
        """Read the front cameras of a sample and prepare them with their labels.

        Raises:
            FileNotFoundError: an image is missing.
            ValueError: an image is damaged.
        """
        cameras, world_from_ego = self.read(index)
        return prepare_sample(
            cameras,
            self.config,
            self.images,
            token=self.token(index),
            ego_motion=self._ego_motion(index),
            augmentation=augmentation,
            labels=None if self.index is None else (self.index, world_from_ego),
        )

    def read(self, index: int) -> tuple[list[FrontCamera], Tensor]:
        """Return the front cameras that work, and the pose world_from_ego of the sample."""
        tables = self.dataset.tables
        sample = tables.sample_row(self.token(index))
        rows = camera_rows(tables, sample)
        sensors = tables.keyframes.sensor[rows]
        ego_from_cam = ego_from_sensor(tables, sensors)
        names = [str(name) for name in tables.calibrated_sensors.channel[sensors]]
        stale = is_stale(tables, rows, self.dataset.max_camera_age_s)
        world_from_ego = self.world_from_ego(index)
        moved = invert_se3(world_from_ego) @ world_from_ego_at(tables, rows) @ ego_from_cam
        found = []
        for camera in choose_front_cameras(names, ego_from_cam, self.config.num_cameras):
            if stale[camera]:
                continue
            image, intrinsics = load_camera(tables, int(rows[camera]), 1, load_image=True)
            assert image is not None  # it is to be loaded
            found.append(FrontCamera(image, intrinsics, moved[camera], camera, names[camera]))
        return found, world_from_ego

    def world_from_ego(self, index: int) -> Tensor:  # (4, 4) float64
        """Return the pose of the vehicle at the reference time of a sample."""
        return self._pose(self.dataset.tables.sample_row(self.token(index)))

    def _ego_motion(self, index: int) -> Tensor:  # (3,)
        """Return speed, curvature and 1 since the sample before; zeros for a scene's first."""
        samples = self.dataset.tables.samples
        row = self.dataset.tables.sample_row(self.token(index))
        ordered = self.dataset.tables.samples_of_scene(int(samples.scene[row]))
        place = int(np.flatnonzero(ordered == row)[0])
        if place == 0:
            return torch.zeros(3)
        before = int(ordered[place - 1])
        elapsed_s = float(samples.timestamp_us[row] - samples.timestamp_us[before]) * 1e-6
        return path_of_motion(invert_se3(self._pose(before)), self._pose(row), elapsed_s)

    def _pose(self, row: int) -> Tensor:  # (4, 4) float64
        tables = self.dataset.tables
        return world_from_ego_at(tables, tables.reference_keyframes(np.array([row])))[0]


def prepare_sample(
    cameras: Sequence[FrontCamera],
    config: TrafficConfig,
    images: ImageConfig,
    *,
    token: str,
    ego_motion: Tensor,  # (3,)
    augmentation: TrafficAugmentation | None = None,
    labels: tuple[ElementIndex, Tensor] | None = None,  # with world_from_ego (4, 4)
    crop: Crop | None = None,
) -> TrafficSample:
    """Crop, augment and normalise the images of a sample, and move its labels with them.

    ``crop`` is the part of every image that is seen; None: the augmentation's of the whole view.
    """
    augmentation = augmentation or TrafficAugmentation()
    views, prepared, maps, targets, widths = [], [], [], [], []
    for number, camera in enumerate(cameras):
        height, width = camera.image.shape[:2]
        seen = crop or augmentation.crop(whole_crop((height, width), config))
        pixels = augmentation.change_light(seen.cut(camera.image))
        moved = _moved(camera, seen)
        if labels is not None:
            targets.append(_labels(labels, token, camera, seen, config, number))
        if augmentation.mirror:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            moved = _mirrored(moved, seen)
        views.append(normalise(pixels, images))
        prepared.append(moved)
        maps.append(seen.image_from_view())
        widths.append(seen.size[1])
    joint = TrafficTargets.concatenate(targets)
    if augmentation.color_seed is not None:
        joint = draw_colors(joint, augmentation.color_seed)
    if augmentation.swap_sides:
        joint = swap_sides(joint)
    if augmentation.hide_motion:
        ego_motion = torch.zeros(3)
    if augmentation.mirror:
        joint = mirror_targets(joint, torch.tensor(widths, dtype=torch.int64))
        ego_motion = ego_motion * ego_motion.new_tensor((1.0, -1.0, 1.0))
    return TrafficSample(tuple(views), tuple(prepared), tuple(maps), ego_motion, joint, token)


def stack_samples(samples: Sequence[TrafficSample]) -> TrafficBatch:
    """Stack samples into one batch; images are padded on the right and at the bottom with zeros.

    Raises:
        ValueError: there is no sample.
    """
    if not samples:
        raise ValueError("samples must hold at least one; got none")
    images = [image for sample in samples for image in sample.images]
    cameras = [camera for sample in samples for camera in sample.cameras]
    maps = [values for sample in samples for values in sample.image_from_view]
    counts = [len(sample.images) for sample in samples]
    first = np.cumsum([0, *counts])
    targets = [
        replace(sample.targets, image=sample.targets.image + int(start))
        for sample, start in zip(samples, first, strict=False)
    ]
    eye = torch.eye(4, dtype=torch.float64)
    views = TrafficViews(
        images=_padded(images),
        image_size=torch.tensor([image.shape[1:] for image in images]).reshape(-1, 2),
        intrinsics=torch.stack([eye[:3, :3], *(camera.intrinsics for camera in cameras)])[1:],
        ego_from_cam=torch.stack([eye, *(camera.ego_from_cam for camera in cameras)])[1:],
        sample=torch.from_numpy(np.repeat(np.arange(len(samples)), counts)),
        camera=torch.tensor([camera.camera for camera in cameras], dtype=torch.int64),
        image_from_view=torch.stack([torch.zeros(4), *maps])[1:],
        ego_motion=torch.stack([sample.ego_motion for sample in samples]),
    )
    labelled = torch.ones(len(images), len(BOX_KINDS), dtype=torch.bool)
    labelled[:, LAMP_ONLY] = False
    own_lamps = torch.cat([target.image[target.kind == LAMP_ONLY] for target in targets])
    labelled[own_lamps, LAMP_ONLY] = True
    for sample, start, count in zip(samples, first, counts, strict=False):
        if sample.labelled is not None:
            labelled[int(start) : int(start) + count] = sample.labelled
    return TrafficBatch(
        views,
        TrafficTargets.concatenate(targets),
        labelled,
        tuple(sample.sample_token for sample in samples),
    )


def _labels(
    labels: tuple[ElementIndex, Tensor],
    token: str,
    camera: FrontCamera,
    crop: Crop,
    config: TrafficConfig,
    number: int,
) -> TrafficTargets:
    index, world_from_ego = labels
    return label_image(
        index.elements.get((token, camera.name), ()),
        index,
        crop,
        config,
        image=number,
        ego_from_cam=camera.ego_from_cam,
        world_from_ego=world_from_ego,
    )


def _moved(camera: FrontCamera, crop: Crop) -> FrontCamera:
    intrinsics = crop.move_intrinsics(camera.intrinsics)
    return replace(camera, image=np.empty((0, 0, 3), np.uint8), intrinsics=intrinsics)


def _mirrored(camera: FrontCamera, crop: Crop) -> FrontCamera:
    intrinsics, pose = mirror_camera(camera.intrinsics, camera.ego_from_cam, crop.size[1])
    return replace(camera, intrinsics=intrinsics, ego_from_cam=pose)


def _padded(images: Sequence[Tensor]) -> Tensor:  # (M, 3, H, W)
    if not images:
        return torch.zeros(0, 3, 4, 4)
    height = max(image.shape[1] for image in images)
    width = max(image.shape[2] for image in images)
    return torch.stack(
        [functional.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in images]
    )
