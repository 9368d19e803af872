"""OSI traces are read back by osi-python's own reader of traces."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevstack.export.planning.osi import make_sensor_data, write_osi
from bevstack.export.planning.scene import PlanningFrame
from bevstack.types.cues import LampBelief
from bevstack.types.traffic import Lamp
from tests.export.scenes import (
    POSITION_M,
    VELOCITY_MPS,
    YAW_RAD,
    angle_between,
    random_cue,
    random_drive,
    truths,
    yaw_sweep,
)

REASON = "needs osi-python: pip install 'bevstack[export]'"
OSITrace = pytest.importorskip("osi3trace.osi_trace", reason=REASON).OSITrace
SensorData = pytest.importorskip("osi3.osi_sensordata_pb2", reason=REASON).SensorData

AXLE_M = 0.4
VEHICLES = {
    "car": "TYPE_MEDIUM_CAR",
    "truck": "TYPE_HEAVY_TRUCK",
    "bus": "TYPE_BUS",
    "trailer": "TYPE_TRAILER",
    "construction_vehicle": "TYPE_WORK_MACHINE",
    "motorcycle": "TYPE_MOTORBIKE",
    "bicycle": "TYPE_BICYCLE",
}
STATIONARY = {"traffic_cone": "TYPE_PYLON", "barrier": "TYPE_BARRIER"}


def read(path: Path) -> list[Any]:
    """Return the messages of a trace."""
    trace = OSITrace(str(path), "SensorData")
    try:
        found = []
        for message in trace:
            copied = SensorData()
            copied.CopyFrom(message)
            found.append(copied)
        return found
    finally:
        trace.close()


def expect_class(item: Any, name: str) -> None:
    """Compare the candidate of an object with its class, by the names of the enumerations."""
    (candidate,) = item.candidate
    if name in STATIONARY:
        kind = candidate.classification
        assert kind.type == getattr(type(kind), STATIONARY[name])
        return
    kind = type(candidate.vehicle_classification)
    wanted = "PEDESTRIAN" if name == "pedestrian" else "VEHICLE"
    object_type = candidate.DESCRIPTOR.fields_by_name["type"].enum_type
    assert object_type.values_by_number[candidate.type].name == f"TYPE_{wanted}"
    if name in VEHICLES:
        assert candidate.vehicle_classification.type == getattr(kind, VEHICLES[name])


def expect_equal(frames: list[PlanningFrame], messages: list[Any]) -> int:
    """Compare the objects of messages with the frames; return their number."""
    count = 0
    for frame, data in zip(frames, messages, strict=True):
        for stamp in (data.timestamp, data.last_measurement_time):
            assert stamp.seconds * 1_000_000_000 + stamp.nanos == 1000 * frame.timestamp_us
        assert (data.version.version_major, data.HasField("mounting_position")) == (3, True)
        assert data.mounting_position.position.z == 0
        moving, stationary = iter(data.moving_object), iter(data.stationary_object)
        for row, truth in enumerate(truths(frame, world=False)):
            name = frame.objects.class_names[row]
            item = next(stationary if name in STATIONARY else moving)
            expect_class(item, name)
            place = item.base.position
            found = np.array((place.x, place.y, place.z + AXLE_M))
            assert np.abs(found - truth.center).max() < POSITION_M
            assert angle_between(item.base.orientation.yaw, truth.yaw) < YAW_RAD
            size = item.base.dimension
            expected = pytest.approx(frame.objects.size[row], abs=1e-9)
            assert (size.length, size.width, size.height) == expected
            assert item.header.existence_probability == frame.objects.scores[row]
            if truth.covariance is None:
                assert not item.header.HasField("tracking_id")
            else:
                assert item.header.tracking_id.value == frame.objects.identity[row]
                rmse = item.base_rmse.position
                variances = np.diagonal(truth.covariance)
                assert (rmse.x**2, rmse.y**2) == pytest.approx(variances[:2])
            if name not in STATIONARY:
                velocity = np.array((item.base.velocity.x, item.base.velocity.y))
                assert item.base.HasField("velocity") is not np.isnan(truth.velocity).any()
                if item.base.HasField("velocity"):
                    assert np.abs(velocity - truth.velocity).max() < VELOCITY_MPS
            count += 1
        assert next(moving, None) is None and next(stationary, None) is None
    return count


@pytest.mark.parametrize("drive", ["detections", "tracks", "sweep"])
def test_the_reader_of_traces_finds_what_was_written(tmp_path: Path, drive: str) -> None:
    frames = yaw_sweep() if drive == "sweep" else random_drive(tracks=drive == "tracks", seed=14)
    beside = write_osi(tmp_path / "drive.osi", frames, rear_axle_height_m=AXLE_M)
    assert expect_equal(frames, read(tmp_path / "drive.osi")) >= 360
    extension = json.loads(beside.read_text())
    assert beside.name == "drive.osi.extension.json"
    assert [entry["timestamp_us"] for entry in extension["frames"]] == [
        frame.timestamp_us for frame in frames
    ]


def test_a_light_has_one_object_a_lamp() -> None:
    (frame,) = random_drive(tracks=False, seed=15, count=1)
    cue = random_cue(np.random.default_rng(0), "light", frame.timestamp_us)
    lamps = [Lamp("red", "slight_left", "on"), Lamp("yellow", "circle", "flashing")]
    lit = dataclasses.replace(cue, state=tuple(LampBelief(lamp, 0.7) for lamp in lamps))
    dark = dataclasses.replace(cue, state=(), state_name="off")
    unclear = dataclasses.replace(cue, state=(), state_name="unknown")
    frame = dataclasses.replace(frame, cues=(lit, dark, unclear))
    lights = make_sensor_data(frame, rear_axle_height_m=AXLE_M).traffic_light
    kind = type(lights[0].candidate[0].classification)
    values = []
    for light in lights:
        found = light.candidate[0].classification
        values.append(
            (kind.Color.Name(found.color), kind.Icon.Name(found.icon), kind.Mode.Name(found.mode))
        )
        place = light.base.position
        assert (place.x, place.y, place.z + AXLE_M) == pytest.approx(cue.position_m)
        assert light.base.orientation.yaw == cue.yaw_rad
    assert values == [
        ("COLOR_RED", "ICON_ARROW_DIAG_LEFT", "MODE_CONSTANT"),
        ("COLOR_YELLOW", "ICON_NONE", "MODE_FLASHING"),
        ("COLOR_UNKNOWN", "ICON_UNKNOWN", "MODE_OFF"),
        ("COLOR_UNKNOWN", "ICON_UNKNOWN", "MODE_UNKNOWN"),
    ]
    first, second = (light.header.tracking_id.value for light in lights[:2])
    assert second == first + 1


@pytest.mark.parametrize(
    ("meaning", "name"),
    [
        ("stop", "TYPE_STOP"),
        ("speed_limit", "TYPE_SPEED_LIMIT_BEGIN"),
        ("turn_left", "TYPE_PRESCRIBED_LEFT_TURN"),
        ("turn_right", "TYPE_PRESCRIBED_RIGHT_TURN"),
        ("go_straight", "TYPE_PRESCRIBED_STRAIGHT"),
        ("no_u_turn", "TYPE_NO_U_TURN_LEFT"),
        ("u_turn", "TYPE_PRESCRIBED_U_TURN_LEFT"),
        ("no_left_turn", "TYPE_OTHER"),
        ("slight_right", "TYPE_OTHER"),
    ],
)
def test_a_sign_has_its_type(meaning: str, name: str) -> None:
    (frame,) = random_drive(tracks=False, seed=15, count=1)
    cue = random_cue(np.random.default_rng(0), "sign", frame.timestamp_us)
    limit = 50 / 3.6 if meaning == "speed_limit" else None
    cue = dataclasses.replace(cue, meaning=meaning, speed_limit_mps=limit)
    (sign,) = make_sensor_data(dataclasses.replace(frame, cues=(cue,))).traffic_sign
    found = sign.main_sign.candidate[0].classification
    assert type(found).Type.Name(found.type) == name
    assert found.code == ("R3-2" if meaning == "no_left_turn" else "")
    if limit is not None:
        assert found.value.value == pytest.approx(50) and found.value.value_unit == 3


def test_wrong_input_is_one_sentence(tmp_path: Path) -> None:
    frames = random_drive(tracks=False, seed=15, count=1)
    with pytest.raises(ValueError, match=r"must end in .osi; got .*a\.bin"):
        write_osi(tmp_path / "a.bin", frames)
    with pytest.raises(ValueError, match="from 0 to 2 metres; got 33"):
        write_osi(tmp_path / "a.osi", frames, rear_axle_height_m=33)
