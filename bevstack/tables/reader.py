"""Reader of the 13-table format: numpy columns, with tokens resolved to rows.

It reads the real nuScenes and any other root in its format, and keeps the columns that the project
uses. Small tables are parsed on first use. Large tables are parsed once, and from then on mapped
into memory from a column file (`bevstack.tables.cache`). Nothing is pickled.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bevstack.file_names import path_inside
from bevstack.json_files import shorten
from bevstack.tables.cache import Records, open_records
from bevstack.tables.classes import Classes, classes_of_categories, read_classes
from bevstack.tables.links import NO_ROW
from bevstack.tables.names import LIDAR_CHANNEL
from bevstack.tables.records import (
    CalibratedSensors,
    Record,
    SampleAnnotations,
    Samples,
    Scenes,
    SensorReadings,
)
from bevstack.tables.references import reference_rows

RecordType = TypeVar("RecordType", bound=Record)


class Tables:
    """The tables of one version below one root, each read on first use.

    A copy in another process opens the tables again there; mapped columns share their memory.

    Args:
        root: the folder that holds ``samples/`` and the version's folder.
        version: the folder of the 13 tables, such as "v1.0-mini".
        cache: True caches the tables in a column file beside them or in the user's cache folder,
            False parses them, and None caches tables of 64 MiB and more.
        classes: detection classes of categories that are not nuScenes', None for one to leave out;
            or the path of such a mapping as JSON.
        allow_outside: the tables are trusted, and may name files outside the root.

    Raises:
        FileNotFoundError: the root, the version or the file of ``classes`` does not exist; the
            message lists the versions.
        ValueError: ``classes`` names an unknown detection class.
    """

    def __init__(
        self,
        root: Path | str,
        version: str,
        *,
        cache: bool | None = None,
        classes: Classes | Path | str | None = None,
        allow_outside: bool = False,
    ) -> None:
        self.root = Path(root)
        self.allow_outside = allow_outside
        self._cache = cache
        self.given_classes = read_classes(classes)
        self.version = version
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"data set root must be an existing folder; got {self.root}: give the folder that "
                "holds samples/ and a version such as v1.0-mini/"
            )
        if not version or not self.folder.is_dir():
            versions = sorted(path.parent.name for path in self.root.glob("*/scene.json"))
            raise FileNotFoundError(
                f"version must be a folder of tables below {self.root}; got {version!r}; "
                + (f"versions there: {', '.join(versions)}" if versions else "none has scene.json")
            )

    @property
    def folder(self) -> Path:
        """Return the folder of the version's ``.json`` files."""
        return self.root / self.version

    def file_path(self, filename: str) -> Path:
        """Return the path of a file that a table names, which must lie inside the root.

        Raises:
            ValueError: the name leads out of the root, or no file can have it.
        """
        what = f"file name in the tables of {self.version}"
        return path_inside(self.root, filename, what=what, allow_outside=self.allow_outside)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("root", "version", "allow_outside", "_cache", "given_classes")
        return {name: self.__dict__[name] for name in kept}

    @cached_property
    def scenes(self) -> Scenes:
        """Return the scenes in file order."""
        return self._record("scenes", Scenes)

    @cached_property
    def samples(self) -> Samples:
        """Return the samples in file order."""
        return self._record("samples", Samples)

    @cached_property
    def calibrated_sensors(self) -> CalibratedSensors:
        """Return the calibrations in file order."""
        return self._record("calibrated_sensors", CalibratedSensors)

    @cached_property
    def keyframes(self) -> SensorReadings:
        """Return the sensor readings at key frames, in file order."""
        return self._record("keyframes", SensorReadings)

    @cached_property
    def sweeps(self) -> SensorReadings:
        """Return the sensor readings between key frames, in file order."""
        return self._record("sweeps", SensorReadings)

    @cached_property
    def annotations(self) -> SampleAnnotations:
        """Return the ground-truth boxes in file order; none in a version without annotations."""
        return self._record("annotations", SampleAnnotations)

    @property
    def has_annotations(self) -> bool:
        """Return True if the version has a table of annotations, which may be empty."""
        return (self.folder / "sample_annotation.json").is_file()

    @cached_property
    def class_by_category(self) -> Mapping[str, str]:
        """Return the detection class of each category that has one.

        Raises:
            ValueError: there are boxes and no category has a class, or ``classes`` names a category
                that does not exist; the message lists the categories.
        """
        category = self.annotations.category
        names = [str(name) for name in category.names]
        counts = np.bincount(category.codes, minlength=len(names)).tolist()
        return classes_of_categories(names, counts, self.given_classes, self.folder)

    def scene_rows(self, names: Sequence[str]) -> NDArray[np.int32]:
        """Return the rows of scenes by name, in the order of the names.

        Raises:
            ValueError: the version does not hold a scene; the message suggests the closest names.
        """
        index = {str(name): row for row, name in enumerate(self.scenes.name)}
        for name in names:
            if name not in index:
                closest = difflib.get_close_matches(name, index, n=3, cutoff=0.0)
                raise ValueError(
                    f"scene must be one of the {len(index)} scenes of {self.version} in "
                    f"{self.root}; got {shorten(name)}; the nearest names: "
                    f"{', '.join(closest) or 'none'}"
                )
        return np.array([index[name] for name in names], dtype=np.int32)

    def samples_of_scene(self, scene: int) -> NDArray[np.int64]:
        """Return the rows of a scene's samples in order of time."""
        rows = self._samples_by_scene.rows(scene)
        return rows[np.argsort(self.samples.timestamp_us[rows], kind="stable")]

    def sample_row(self, token: str) -> int:
        """Return the row of a sample.

        Raises:
            ValueError: the version does not hold the sample.
        """
        if token not in self._sample_index:
            raise ValueError(
                f"sample_token must be a sample of {self.version} in {self.root}; got {token!r}"
            )
        return self._sample_index[token]

    def annotations_of(self, sample: int) -> NDArray[np.int64]:
        """Return the rows of a sample's annotations, in file order."""
        return self._annotations_by_sample.rows(sample)

    def keyframes_of(self, sample: int) -> NDArray[np.int64]:
        """Return the rows of a sample's key frames, in file order."""
        return self._keyframes_by_sample.rows(sample)

    def reference_keyframes(
        self,
        samples: NDArray[np.int64],  # (n,) rows
    ) -> NDArray[np.int32]:  # (n,) rows
        """Return the key frames that define the ego pose of the samples.

        Those of LIDAR_TOP; in scenes without it those of another lidar or of a camera, by the rule
        of `bevstack.tables.references`.

        Raises:
            ValueError: a sample has no such key frame.
        """
        keyframes = self._reference_keyframe[samples]
        if (keyframes == NO_ROW).any():
            missing = samples[keyframes == NO_ROW]
            scene = self.samples.scene == self.samples.scene[missing[0]]
            found = self._reference_keyframe[scene & (self._reference_keyframe != NO_ROW)]
            channels = self.calibrated_sensors.channel[self.keyframes.sensor[found]]
            has_lidar = LIDAR_CHANNEL in channels.tolist()
            wanted = LIDAR_CHANNEL if has_lidar else "a lidar or a camera"
            reason = ", as the remaining samples of its scene have" if has_lidar else ""
            raise ValueError(
                f"every sample must have a key frame of {wanted} in sample_data.json, which "
                f"gives its ego pose; got none for {str(self.samples.token[missing[0]])!r} "
                f"and {len(missing) - 1} more samples of {self.version}{reason}"
            )
        return keyframes

    def _record(self, name: str, kind: type[RecordType]) -> RecordType:
        record = self._records.record(name)
        assert isinstance(record, kind)
        return record

    @cached_property
    def _records(self) -> Records:
        return open_records(self.folder, cache=self._cache)

    @cached_property
    def _sample_index(self) -> dict[str, int]:
        return {str(token): row for row, token in enumerate(self.samples.token)}

    @cached_property
    def _samples_by_scene(self) -> _RowGroups:
        return _RowGroups(self.samples.scene, len(self.scenes.token))

    @cached_property
    def _annotations_by_sample(self) -> _RowGroups:
        return _RowGroups(self.annotations.sample, len(self.samples.token))

    @cached_property
    def _keyframes_by_sample(self) -> _RowGroups:
        return _RowGroups(self.keyframes.sample, len(self.samples.token))

    @cached_property
    def _reference_keyframe(self) -> NDArray[np.int32]:  # (S,)
        return reference_rows(self.samples, self.keyframes, self.calibrated_sensors)


class _RowGroups:
    """Rows grouped by an integer key, in file order; built by one sort, read by slicing."""

    def __init__(self, key: NDArray[np.int32], count: int) -> None:
        self._rows = np.argsort(key, kind="stable")
        self._ends = np.cumsum(np.bincount(key, minlength=count))

    def rows(self, group: int) -> NDArray[np.int64]:
        start = self._ends[group - 1] if group else 0
        return self._rows[start : self._ends[group]]
