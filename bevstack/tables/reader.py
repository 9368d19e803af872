"""Reader of the 13-table format: numpy columns, tokens resolved to rows.

It reads the real nuScenes and any other root written in its format, and keeps the columns the
project uses. Small tables are parsed on first use; large ones once, and then mapped into memory
from a file of columns (`bevstack.tables.cache`). No pickles.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.cache import Records, open_records
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

Kind = TypeVar("Kind", bound=Record)


class Tables:
    """The tables of one version below one root, each read when first asked for.

    A copy in another process is opened there anew: mapped columns share their memory.

    Args:
        root: the folder that holds ``samples/`` and the version's folder.
        version: the folder of the 13 tables, such as "v1.0-mini".
        cache: keep tables as columns beside them, or in the user's cache folder; None keeps those
            of 64 MiB and more.

    Raises:
        FileNotFoundError: no such root or version (names those that are there).
    """

    def __init__(self, root: Path | str, version: str, *, cache: bool | None = None) -> None:
        self.root = Path(root)
        self._cache = cache
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

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("root", "version", "_cache")}

    @cached_property
    def scenes(self) -> Scenes:
        """Scenes in file order."""
        return self._record("scenes", Scenes)

    @cached_property
    def samples(self) -> Samples:
        """Samples in file order."""
        return self._record("samples", Samples)

    @cached_property
    def calibrated_sensors(self) -> CalibratedSensors:
        """Calibrations in file order."""
        return self._record("calibrated_sensors", CalibratedSensors)

    @cached_property
    def keyframes(self) -> SensorReadings:
        """Key-frame sensor readings in file order."""
        return self._record("keyframes", SensorReadings)

    @cached_property
    def sweeps(self) -> SensorReadings:
        """The other sensor readings, between key frames, in file order."""
        return self._record("sweeps", SensorReadings)

    @cached_property
    def annotations(self) -> SampleAnnotations:
        """True boxes in file order; none in a version whose truth is withheld."""
        return self._record("annotations", SampleAnnotations)

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

    def _record(self, name: str, kind: type[Kind]) -> Kind:
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


class _Groups:
    """Rows by the value of a key, in file order: one sort, then slices."""

    def __init__(self, key: NDArray[np.int32], count: int) -> None:
        self._rows = np.argsort(key, kind="stable")
        self._ends = np.cumsum(np.bincount(key, minlength=count))

    def rows(self, group: int) -> NDArray[np.int64]:
        start = self._ends[group - 1] if group else 0
        return self._rows[start : self._ends[group]]
