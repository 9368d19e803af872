"""Reader of the 13-table format: numpy columns, tokens resolved to rows, each table on first use.

It reads the real nuScenes and any other root written in its format. It keeps the columns the
project uses and nothing else: no pickles, no files of its own beside the tables.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.columns import NO_ROW, TableColumns
from bevstack.tables.names import LIDAR_CHANNEL
from bevstack.tables.records import (
    CalibratedSensors,
    Keyframes,
    SampleAnnotations,
    Samples,
    Scenes,
    annotation_velocity,
)


class Tables:
    """The tables of one version below one root, each read when first asked for.

    Args:
        root: the folder that holds ``samples/`` and the version's folder.
        version: the folder of the 13 tables, such as "v1.0-mini".

    Raises:
        FileNotFoundError: no such root or version (names those that are there).
    """

    def __init__(self, root: Path | str, version: str) -> None:
        self.root = Path(root)
        self.version = version
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"data set root must be an existing folder; got {self.root}: give the folder that "
                "holds samples/ and a version such as v1.0-mini/"
            )
        if not version or not self.folder.is_dir():
            found = sorted(path.parent.name for path in self.root.glob("*/scene.json"))
            raise FileNotFoundError(
                f"version must be a folder of tables below {self.root}; got {version!r}; "
                + (f"there: {', '.join(found)}" if found else "no folder there holds scene.json")
            )

    @property
    def folder(self) -> Path:
        """Where the ``.json`` files of the version are."""
        return self.root / self.version

    @cached_property
    def scenes(self) -> Scenes:
        """Scenes in file order."""
        table = self._scene_columns
        return Scenes(table.text("token"), table.text("name"), table.text("description"))

    @cached_property
    def samples(self) -> Samples:
        """Samples in file order."""
        table = self._sample_columns
        scene = table.links("scene_token", "scene", self._scene_columns.index())
        return Samples(table.text("token"), table.integers("timestamp"), scene)

    @cached_property
    def calibrated_sensors(self) -> CalibratedSensors:
        """Calibrations in file order."""
        sensors = self._columns("sensor", "channel", "modality")
        table = self._sensor_columns
        sensor = table.links("sensor_token", "sensor", sensors.index())
        return CalibratedSensors(
            token=table.text("token"),
            channel=sensors.text("channel")[sensor],
            is_camera=(sensors.text("modality") == "camera")[sensor],
            translation=table.floats("translation", (3,), finite=False),
            rotation=table.floats("rotation", (4,), finite=False),
            intrinsics=table.floats("camera_intrinsic", (3, 3), finite=False),
        )

    @cached_property
    def keyframes(self) -> Keyframes:
        """Key-frame sensor readings in file order."""
        fields = ("sample_token", "calibrated_sensor_token", "ego_pose_token", "is_key_frame")
        table = self._columns("sample_data", *fields, "filename", "height", "width", "timestamp")
        kept = np.array([bool(flag) for flag in table.values("is_key_frame")], dtype=np.bool_)
        poses = self._columns("ego_pose", "translation", "rotation")
        pose = table.links("ego_pose_token", "ego_pose", poses.index())[kept]
        sample = table.links("sample_token", "sample", self._sample_columns.index())
        sensor = table.links(
            "calibrated_sensor_token", "calibrated_sensor", self._sensor_columns.index()
        )
        size = [
            [h or 0, w or 0]
            for h, w in zip(table.values("height"), table.values("width"), strict=True)
        ]
        return Keyframes(
            token=table.text("token")[kept],
            sample=sample[kept],
            sensor=sensor[kept],
            filename=table.text("filename")[kept],
            size=np.array(size, dtype=np.int64).reshape(-1, 2)[kept],
            timestamp_us=table.integers("timestamp")[kept],
            translation=poses.floats("translation", (3,))[pose],
            rotation=poses.floats("rotation", (4,))[pose],
        )

    @cached_property
    def annotations(self) -> SampleAnnotations:
        """True boxes in file order; none in a version whose truth is withheld."""
        instances = self._columns("instance", "category_token")
        categories = self._columns("category", "name")
        table = self._columns(
            "sample_annotation",
            *("sample_token", "instance_token", "attribute_tokens", "translation", "size"),
            *("rotation", "prev", "next", "num_lidar_pts", "num_radar_pts"),
        )
        sample = table.links("sample_token", "sample", self._sample_columns.index())
        instance = table.links("instance_token", "instance", instances.index())
        category = instances.links("category_token", "category", categories.index())
        translation = table.floats("translation", (3,))
        own = table.index()
        neighbours = (
            table.links("prev", "sample_annotation", own, optional=True),
            table.links("next", "sample_annotation", own, optional=True),
        )
        return SampleAnnotations(
            token=table.text("token"),
            sample=sample,
            instance=instance,
            category=categories.text("name")[category[instance]],
            attribute=self._attributes(table),
            translation=translation,
            size=table.floats("size", (3,)),
            rotation=table.floats("rotation", (4,)),
            num_points=table.integers("num_lidar_pts") + table.integers("num_radar_pts"),
            velocity=annotation_velocity(
                translation, self.samples.timestamp_us[sample], *neighbours
            ),
        )

    def scene_rows(self, names: Sequence[str]) -> NDArray[np.int32]:
        """Rows of scenes by name, in the order of the names.

        Raises:
            ValueError: a scene that the version does not hold, with the nearest names.
        """
        index = {str(name): row for row, name in enumerate(self.scenes.name)}
        for name in names:
            if name not in index:
                near = difflib.get_close_matches(name, index, n=3, cutoff=0.0)
                raise ValueError(
                    f"scene must be one of the {len(index)} scenes of {self.version} in "
                    f"{self.root}; got {name!r}; the nearest: {', '.join(near) or 'none'}"
                )
        return np.array([index[name] for name in names], dtype=np.int32)

    def samples_of_scene(self, scene: int) -> NDArray[np.int64]:
        """Rows of a scene's samples in order of time."""
        rows = self._samples_by_scene.rows(scene)
        return rows[np.argsort(self.samples.timestamp_us[rows], kind="stable")]

    def sample_row(self, token: str) -> int:
        """Row of a sample.

        Raises:
            ValueError: a sample that the version does not hold.
        """
        if token not in self._sample_index:
            raise ValueError(
                f"sample_token must be a sample of {self.version} in {self.root}; got {token!r}"
            )
        return self._sample_index[token]

    def annotations_of(self, sample: int) -> NDArray[np.int64]:
        """Rows of a sample's annotations, in file order."""
        return self._annotations_by_sample.rows(sample)

    def keyframes_of(self, sample: int) -> NDArray[np.int64]:
        """Rows of a sample's key frames, in file order."""
        return self._keyframes_by_sample.rows(sample)

    def reference_keyframes(
        self,
        samples: NDArray[np.int64],  # (n,) rows
    ) -> NDArray[np.int32]:  # (n,) rows
        """The LIDAR_TOP key frames, whose times and ego poses are the samples'.

        Raises:
            ValueError: a sample without one.
        """
        keyframes = self._lidar_keyframe[samples]
        if (keyframes == NO_ROW).any():
            missing = samples[keyframes == NO_ROW]
            raise ValueError(
                f"every sample must have a key frame of {LIDAR_CHANNEL} in sample_data.json, whose "
                f"ego pose is the sample's; got none for {str(self.samples.token[missing[0]])!r} "
                f"and {len(missing) - 1} more of {self.version}"
            )
        return keyframes

    def _columns(self, table: str, *fields: str) -> TableColumns:
        return TableColumns(self.folder / f"{table}.json", fields)

    @cached_property
    def _scene_columns(self) -> TableColumns:
        return self._columns("scene", "name", "description")

    @cached_property
    def _sample_columns(self) -> TableColumns:
        return self._columns("sample", "timestamp", "scene_token")

    @cached_property
    def _sensor_columns(self) -> TableColumns:
        fields = ("sensor_token", "translation", "rotation", "camera_intrinsic")
        return self._columns("calibrated_sensor", *fields)

    @cached_property
    def _sample_index(self) -> dict[str, int]:
        return self._sample_columns.index()

    @cached_property
    def _samples_by_scene(self) -> _Groups:
        return _Groups(self.samples.scene, len(self.scenes.token))

    @cached_property
    def _annotations_by_sample(self) -> _Groups:
        return _Groups(self.annotations.sample, len(self.samples.token))

    @cached_property
    def _keyframes_by_sample(self) -> _Groups:
        return _Groups(self.keyframes.sample, len(self.samples.token))

    @cached_property
    def _lidar_keyframe(self) -> NDArray[np.int32]:  # (S,)
        is_lidar = self.calibrated_sensors.channel == LIDAR_CHANNEL
        rows = np.flatnonzero(is_lidar[self.keyframes.sensor])
        keyframe = np.full(len(self.samples.token), NO_ROW, dtype=np.int32)
        keyframe[self.keyframes.sample[rows]] = rows
        return keyframe

    def _attributes(self, table: TableColumns) -> NDArray[np.str_]:
        attributes = self._columns("attribute", "name")
        index = attributes.index()
        names = attributes.text("name")
        found = []
        for row, tokens in enumerate(table.values("attribute_tokens")):
            if not isinstance(tokens, list) or len(tokens) > 1 or not set(tokens) <= set(index):
                raise ValueError(
                    f"{table.where(row, 'attribute_tokens')} must be a list of at most one token "
                    f"of attribute.json; got {tokens!r}"
                )
            found.append(str(names[index[tokens[0]]]) if tokens else "")
        return np.array(found, dtype=np.str_)


class _Groups:
    """Rows by the value of a key, in file order: one sort, then slices."""

    def __init__(self, key: NDArray[np.int32], count: int) -> None:
        self._rows = np.argsort(key, kind="stable")
        self._ends = np.cumsum(np.bincount(key, minlength=count))

    def rows(self, group: int) -> NDArray[np.int64]:
        start = self._ends[group - 1] if group else 0
        return self._rows[start : self._ends[group]]
