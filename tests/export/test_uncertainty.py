"""Readers of every format find the calibrated uncertainty, in the format's own terms."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.config.tracking import TrackingConfig
from bevstack.export.messages.store import open_store
from bevstack.export.planning.apollo import write_apollo
from bevstack.export.planning.autoware import (
    AutowareOptions,
    make_detected_objects,
    write_autoware,
)
from bevstack.export.planning.extension import extension_entry
from bevstack.export.planning.openlabel import write_openlabel
from bevstack.export.planning.osi import make_sensor_data
from bevstack.export.planning.results import read_planning_frames
from bevstack.export.planning.scene import PlanningFrame, PlanningObjects
from bevstack.tables.reader import Tables
from bevstack.types import Boxes3D, Detections
from bevstack.vocabulary import DETECTION_CLASSES
from tests.export.apollo_messages import message_classes
from tests.export.result_files import VERSION, write_results
from tests.export.scenes import random_pose
from tests.tables.tiny_root import write_tiny_root
from tests.uncertainty.models import odd_calibration

COUNT = 6


@pytest.fixture(scope="module")
def frame() -> PlanningFrame:
    """Return detections with an uncertainty, far from the world's origin."""
    random = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random, dtype=torch.float64)

    boxes = Boxes3D(40 * draw(COUNT, 3) - 20, draw(COUNT, 3) + 1, draw(COUNT) * 6, draw(COUNT, 2))
    labels = torch.arange(COUNT) + 3  # with barriers and cones
    detections = Detections(boxes, draw(COUNT), labels, DETECTION_CLASSES)
    calibrated = odd_calibration().calibrated(detections, torch.zeros(2))
    return PlanningFrame(
        timestamp_us=1_700_000_000_000_000,
        world_from_ego=random_pose(np.random.default_rng(3)),
        objects=PlanningObjects.from_detections(calibrated),
        drive="scene",
    )


def test_autoware_holds_pose_twist_and_existence(tmp_path: Path, frame: PlanningFrame) -> None:
    bags = pytest.importorskip("tests.export.bags")
    write_autoware(tmp_path / "drive.mcap", [frame], open_store("humble", "1.8"))
    (message,) = [
        read.message
        for read in bags.read_mcap(tmp_path / "drive.mcap")
        if read.topic == "/bevstack/objects"
    ]
    known = frame.objects.uncertainty
    assert known is not None
    for row, found in enumerate(message.objects):
        assert found.existence_probability == np.float32(known.existence[row])
        kinematics = found.kinematics
        assert kinematics.has_position_covariance and kinematics.has_twist_covariance
        pose = np.array(kinematics.pose_with_covariance.covariance).reshape(6, 6)
        wanted = np.zeros((6, 6))
        wanted[:2, :2] = known.state[row, :2, :2]
        wanted[2, 2], wanted[5, 5] = known.elevation_m2[row], known.yaw_rad2[row]
        np.testing.assert_allclose(pose, wanted, atol=1e-12)
        yaw = frame.objects.yaw[row]
        turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
        twist = np.array(kinematics.twist_with_covariance.covariance).reshape(6, 6)[:2, :2]
        np.testing.assert_allclose(turn @ twist @ turn.T, known.state[row, 2:, 2:], atol=1e-9)


def test_osi_holds_standard_deviations(frame: PlanningFrame) -> None:
    pytest.importorskip("osi3.osi_sensordata_pb2", reason="needs osi-python")
    data = make_sensor_data(frame)
    known = frame.objects.uncertainty
    assert known is not None
    moving, stationary = iter(data.moving_object), iter(data.stationary_object)
    for row, name in enumerate(frame.objects.class_names):
        item = next(stationary if name in ("barrier", "traffic_cone") else moving)
        assert item.header.existence_probability == float(known.existence[row])
        rmse = item.base_rmse
        assert rmse.position.z**2 == pytest.approx(float(known.elevation_m2[row]))
        assert rmse.position.x**2 == pytest.approx(float(known.state[row, 0, 0]))
        assert rmse.orientation.yaw**2 == pytest.approx(float(known.yaw_rad2[row]))
        sizes = [rmse.dimension.length, rmse.dimension.width, rmse.dimension.height]
        assert np.square(sizes) == pytest.approx(known.size_m2[row].numpy())


def test_apollo_holds_the_variance_of_the_ground_point(
    tmp_path: Path, frame: PlanningFrame
) -> None:
    text_format = pytest.importorskip("google.protobuf.text_format", reason="needs protobuf")
    write_apollo(tmp_path / "drive", [frame])
    text = (tmp_path / "drive" / "obstacles_000000.pb.txt").read_text()
    message = text_format.Parse(text, message_classes()["PerceptionObstacles"]())
    known = frame.objects.uncertainty
    assert known is not None
    turn = frame.world_from_ego[:2, :2]
    for row, found in enumerate(message.perception_obstacle):
        position = np.array(found.position_covariance).reshape(3, 3)
        wanted = turn @ known.state[row, :2, :2].numpy() @ turn.T
        np.testing.assert_allclose(position[:2, :2], wanted, atol=1e-9)
        # The ground is half a height below the centre.
        ground = float(known.elevation_m2[row] + 0.25 * known.size_m2[row, 2])
        assert position[2, 2] == pytest.approx(ground)


def test_openlabel_and_the_extension_hold_all_of_it(tmp_path: Path, frame: PlanningFrame) -> None:
    write_openlabel(tmp_path / "drive.json", [frame])
    content = json.loads((tmp_path / "drive.json").read_text())["openlabel"]
    known = frame.objects.uncertainty
    assert known is not None
    objects = content["frames"]["0"]["objects"]
    for row, key in enumerate(map(str, frame.object_ids())):
        data = objects[key]["object_data"]
        numbers = {item["name"]: item["val"] for item in data["num"]}
        assert numbers["existence_probability"] == float(known.existence[row])
        assert numbers["yaw_variance_rad2"] == float(known.yaw_rad2[row])
        assert numbers["flip_probability"] == float(known.flip[row])
        assert numbers["elevation_variance_m2"] == float(known.elevation_m2[row])
        vectors = {item["name"]: item["val"] for item in data["vec"]}
        assert vectors["size_variance_m2"] == known.size_m2[row].tolist()
        assert vectors["position_covariance"] == known.state[row, :2, :2].flatten().tolist()
        entry = extension_entry(frame)["objects"][row]
        assert entry["uncertainty"] == known.to_entries()[row]
        assert entry["state_covariance"] == known.state[row].tolist()


def test_without_a_calibration_nothing_is_invented(frame: PlanningFrame) -> None:
    objects = dataclasses.replace(frame.objects, uncertainty=None, covariance=None)
    plain = dataclasses.replace(frame, objects=objects)
    assert plain.objects.existence is plain.objects.scores
    assert plain.objects.pose_covariance(0) is None
    assert extension_entry(plain)["objects"][0]["uncertainty"] is None
    pytest.importorskip("rosbags", reason="needs rosbags")
    store = open_store("humble", "1.8")
    for found in make_detected_objects(plain, store, AutowareOptions()).objects:
        assert not found.kinematics.has_position_covariance


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables(write_tiny_root(tmp_path_factory.mktemp("root")), VERSION, cache=False)


def test_results_files_get_the_uncertainty_of_a_calibration(tmp_path: Path, tables: Tables) -> None:
    path = write_results(tmp_path / "r.json", tracks=False)
    calibration = odd_calibration()
    for frame in read_planning_frames(path, tables, calibration=calibration):
        objects = frame.objects
        boxes = Boxes3D(
            *(torch.from_numpy(getattr(objects, n)) for n in ("center", "size", "yaw", "velocity"))
        )
        labels = torch.tensor([DETECTION_CLASSES.index(name) for name in objects.class_names])
        scores = torch.from_numpy(objects.scores)
        detections = Detections(boxes, scores, labels, DETECTION_CLASSES)
        wanted = calibration.calibrated(detections, torch.zeros(2)).uncertainty
        assert wanted is not None and objects.uncertainty is not None
        # The ego vehicle is tilted: seen from above, distances and speeds change by up to 1 %.
        torch.testing.assert_close(objects.uncertainty.state, wanted.state, rtol=0.05, atol=0.02)
        assert objects.covariance == pytest.approx(objects.uncertainty.state.numpy())
    for frame in read_planning_frames(
        path, tables, tracking=TrackingConfig(), calibration=calibration
    ):
        assert frame.objects.uncertainty is not None and frame.paths is not None
    with pytest.raises(ValueError, match=r"tracking must be that of the calibration, Tracking"):
        tracking = TrackingConfig(reach_m=9.0)
        read_planning_frames(path, tables, tracking=tracking, calibration=calibration)
    tracks = write_results(tmp_path / "t.json", tracks=True)
    with pytest.raises(ValueError, match="results to calibrate must be detections; got tracks in"):
        read_planning_frames(tracks, tables, calibration=calibration)
