"""The records of a version parsed from its JSON tables, each table on first use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bevstack.tables.columns import TableColumns
from bevstack.tables.duplicates import check_annotations, check_keyframes
from bevstack.tables.fields import (
    AtMostOneToken,
    Field,
    Flags,
    Floats,
    Integers,
    Names,
    Paths,
    Text,
    Tokens,
)
from bevstack.tables.lens_fields import FIELDS as DISTORTION_FIELDS
from bevstack.tables.lens_fields import check_field_names, joined_distortion, lens_fields
from bevstack.tables.records import (
    CalibratedSensors,
    Record,
    SampleAnnotations,
    Samples,
    Scenes,
    SensorReadings,
    annotation_velocity,
)
from bevstack.tables.text import CodedText

SOURCE_TABLES = (  # the tables that the records are built from
    *("scene", "sample", "sensor", "calibrated_sensor", "sample_data", "ego_pose"),
    *("instance", "category", "attribute", "sample_annotation"),
)


class JsonRecords:
    """The records of `bevstack.tables.records`, parsed from the ``.json`` files of one folder.

    Args:
        folder: the version's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def record(self, name: str) -> Record:
        """Return one of `RECORDS` by name.

        Raises:
            FileNotFoundError: a table of the record does not exist.
            ValueError: a table of the record is damaged, refers to a token that does not exist, or
                holds a row twice.
        """
        record: Record = getattr(self, f"_{name}")
        return record

    @cached_property
    def _scenes(self) -> Scenes:
        table = self._scene_table
        table.check_unique("name")
        return Scenes(
            np.asarray(table.token),
            np.asarray(table.text("name")),
            np.asarray(table.text("description")),
        )

    @cached_property
    def _samples(self) -> Samples:
        table = self._sample_table
        scene = table.links("scene_token", self._scene_table)
        return Samples(np.asarray(table.token), table.array("timestamp"), scene)

    @cached_property
    def _calibrated_sensors(self) -> CalibratedSensors:
        sensors = self._table("sensor", {"channel": Names(), "modality": Names()})
        table = self._sensor_table
        sensor = table.links("sensor_token", sensors)
        rows = zip(*(table.text(name).tolist() for name in DISTORTION_FIELDS), strict=True)
        return CalibratedSensors(
            token=np.asarray(table.token),
            channel=sensors.text("channel")[sensor],
            is_camera=(sensors.text("modality") == "camera")[sensor],
            is_lidar=(sensors.text("modality") == "lidar")[sensor],
            translation=table.array("translation"),
            rotation=table.array("rotation"),
            intrinsics=table.array("camera_intrinsic"),
            distortion=np.array([joined_distortion(row) for row in rows] or [""])[: len(table)],
        )

    @cached_property
    def _keyframes(self) -> SensorReadings:
        return self._readings[0]

    @cached_property
    def _sweeps(self) -> SensorReadings:
        return self._readings[1]

    @cached_property
    def _readings(self) -> tuple[SensorReadings, SensorReadings]:
        """Return the key frames and the sweeps."""
        fields: dict[str, Field] = {
            **{f"{n}_token": Tokens() for n in ("sample", "calibrated_sensor", "ego_pose")},
            **{name: Integers(low=0, or_null=True) for name in ("height", "width")},
            **{"is_key_frame": Flags(), "filename": Paths(), "timestamp": Integers(low=0)},
        }
        table = self._table("sample_data", fields)
        poses = self._table("ego_pose", {"translation": Floats(3), "rotation": Floats(4)})
        pose = table.links("ego_pose_token", poses)
        sample = table.links("sample_token", self._sample_table)
        sensor = table.links("calibrated_sensor_token", self._sensor_table)
        size = np.stack([table.array("height"), table.array("width")], axis=1).astype(np.int32)

        def select(mask: NDArray[np.bool_]) -> SensorReadings:
            return SensorReadings(
                token=table.token.select(mask),
                sample=sample[mask],
                sensor=sensor[mask],
                filename=table.text("filename").select(mask),
                size=size[mask],
                timestamp_us=table.array("timestamp")[mask],
                translation=poses.array("translation")[pose[mask]],
                rotation=poses.array("rotation")[pose[mask]],
            )

        is_keyframe = table.array("is_key_frame")
        keyframes, sweeps = select(is_keyframe), select(~is_keyframe)
        check_keyframes(
            keyframes.sample,
            keyframes.sensor,
            self._calibrated_sensors.channel,
            keyframes.token,
            self._samples.token,
        )
        return keyframes, sweeps

    @cached_property
    def _annotations(self) -> SampleAnnotations:
        instances = self._table("instance", {"category_token": Tokens()})
        categories = self._table("category", {"name": Text()})
        attributes = self._table("attribute", {"name": Text()})
        fields: dict[str, Field] = {
            **{name: Tokens() for name in ("sample_token", "instance_token", "prev", "next")},
            **{"visibility_token": Names(), "attribute_tokens": AtMostOneToken()},
            **{
                name: Floats(count, finite=False)  # checked on use, one sample at a time
                for name, count in (("translation", 3), ("size", 3), ("rotation", 4))
            },
            **{"num_lidar_pts": Integers(), "num_radar_pts": Integers()},
        }
        table = self._table("sample_annotation", fields)
        sample = table.links("sample_token", self._sample_table)
        instance = table.links("instance_token", instances)
        category = instances.links("category_token", categories)[instance]
        attribute = table.links("attribute_tokens", attributes, optional=True) + 1
        neighbours = (table.links(name, table, optional=True) for name in ("prev", "next"))
        visibility = table.text("visibility_token")
        assert isinstance(visibility, CodedText)
        lidar, radar = table.array("num_lidar_pts"), table.array("num_radar_pts")
        values = [table.array(name) for name in ("translation", "size", "rotation")]
        values += [lidar, radar, attribute]
        check_annotations(sample, instance, values, table.token, self._samples.token)
        return SampleAnnotations(
            token=table.token,
            sample=sample,
            instance=instance,
            category=CodedText.from_codes(category, categories.text("name").tolist()),
            attribute=CodedText.from_codes(attribute, ["", *attributes.text("name")]),
            visibility=visibility,
            translation=table.array("translation"),
            size=table.array("size"),
            rotation=table.array("rotation"),
            num_points=lidar + radar,
            counted=(lidar >= 0) & (radar >= 0),
            velocity=annotation_velocity(
                table.array("translation"), self._samples.timestamp_us[sample], *neighbours
            ),
        )

    def _table(self, name: str, fields: Mapping[str, Field]) -> TableColumns:
        return TableColumns(self._folder / f"{name}.json", fields)

    @cached_property
    def _scene_table(self) -> TableColumns:
        return self._table("scene", {"name": Text(), "description": Text()})

    @cached_property
    def _sample_table(self) -> TableColumns:
        return self._table("sample", {"timestamp": Integers(low=0), "scene_token": Tokens()})

    @cached_property
    def _sensor_table(self) -> TableColumns:
        extrinsics = {
            name: Floats(n, finite=False) for name, n in (("translation", 3), ("rotation", 4))
        }
        intrinsics = Floats(3, 3, finite=False)
        fields = {"sensor_token": Tokens(), **extrinsics, "camera_intrinsic": intrinsics}
        table = self._table("calibrated_sensor", {**fields, **lens_fields()})
        check_field_names(self._folder / "calibrated_sensor.json")
        return table
