from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.results.result_boxes import (
    ATTRIBUTE_OF_CLASS,
    MAX_BOXES,
    result_boxes,
    results_of_frame,
)
from bevstack.geometry import invert_se3, se3_from_parts
from bevstack.tables.names import DETECTION_RANGE_M
from bevstack.types import Boxes3D, Detections
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES
from tests.tables.tiny_root import VERSION

IDENTITY = torch.eye(4, dtype=torch.float64)


def _detections(names: list[str], center: list, velocity: list | None = None) -> Detections:
    count = len(names)
    return Detections(
        Boxes3D(
            torch.tensor(center, dtype=torch.float32).reshape(count, 3),
            torch.tensor([4.5, 1.9, 1.6]).expand(count, 3),
            torch.linspace(-3, 3, count),
            torch.tensor(velocity or [[0.0, 0.0]] * count, dtype=torch.float32).reshape(count, 2),
        ),
        torch.linspace(1, 0.1, count),
        torch.tensor([DETECTION_CLASSES.index(name) for name in names], dtype=torch.int64),
    )


@pytest.mark.oracle("nuscenes_format")
def test_boxes_equal_those_of_the_official_code(oracle_dir: Path) -> None:
    case = load_file(oracle_dir / "bevformer_v2/nuscenes_format.safetensors")
    legacy = torch.from_numpy(case["in/boxes_bottom"]).double()
    x, y, bottom, width, length, height, yaw, vx, vy = legacy.unbind(-1)
    boxes = Boxes3D(
        center=torch.stack((x, y, bottom + height / 2), -1),
        size=torch.stack((length, width, height), -1),
        yaw=-yaw - math.pi / 2,
        velocity=torch.stack((vx, vy), -1),
    )
    scores = torch.from_numpy(case["in/scores"])
    detections = Detections(boxes, scores, torch.from_numpy(case["in/labels"]))
    ego_from_lidar = se3_from_parts(*(torch.from_numpy(case[f"in/l2e_{k}"]) for k in "qt"))
    world_from_ego = se3_from_parts(*(torch.from_numpy(case[f"in/e2g_{k}"]) for k in "qt"))
    found = result_boxes(detections, world_from_ego @ ego_from_lidar, invert_se3(ego_from_lidar))
    np.testing.assert_array_equal(found.label, case["out/kept_labels"])
    np.testing.assert_allclose(found.score, case["out/kept_scores"], rtol=1e-7)
    # float32 boxes in float64 poses, on both sides
    np.testing.assert_allclose(found.translation, case["out/global_center"], atol=1e-5)
    same = np.abs((found.rotation * case["out/global_quat"]).sum(-1))  # q and -q are one rotation
    np.testing.assert_allclose(same, 1.0, atol=1e-9)
    np.testing.assert_allclose(found.velocity, case["out/global_velocity"][:, :2], atol=1e-6)
    kept = [list(case["in/scores"]).index(np.float32(score)) for score in case["out/kept_scores"]]
    np.testing.assert_allclose(found.size, case["out/lidar_wlh"][kept], rtol=1e-6)


@pytest.mark.parametrize("name", DETECTION_CLASSES)
def test_boxes_beyond_the_range_of_their_class_are_left_out(name: str) -> None:
    radius = DETECTION_RANGE_M[name]
    inside, outside = radius - 0.01, radius + 0.01
    centers = [[inside, 0, 9], [0, -inside, 0], [-outside, 0, 0], [outside * 0.8, outside * 0.6, 0]]
    found = result_boxes(_detections([name] * 4, centers), IDENTITY)
    np.testing.assert_allclose(found.translation[:, :2], [[inside, 0], [0, -inside]], atol=1e-5)


def test_the_range_is_measured_from_the_ego_not_from_the_lidar() -> None:
    bev_from_ego = torch.eye(4, dtype=torch.float64)
    bev_from_ego[0, 3] = 2.0  # the ego is at x = 2 of the bev frame
    found = result_boxes(
        _detections(["car"] * 2, [[51, 0, 0], [-49, 0, 0]]), IDENTITY, bev_from_ego
    )
    assert found.translation[:, 0].tolist() == [51.0]


@pytest.mark.parametrize(
    ("name", "standing", "moving"),
    [
        ("car", "vehicle.parked", "vehicle.moving"),
        ("truck", "vehicle.parked", "vehicle.moving"),
        ("trailer", "vehicle.parked", "vehicle.moving"),
        ("construction_vehicle", "vehicle.parked", "vehicle.moving"),
        ("bus", "vehicle.stopped", "vehicle.moving"),
        ("pedestrian", "pedestrian.standing", "pedestrian.moving"),
        ("bicycle", "cycle.without_rider", "cycle.with_rider"),
        ("motorcycle", "cycle.without_rider", "cycle.with_rider"),
        ("barrier", "", ""),
        ("traffic_cone", "", ""),
    ],
)
def test_attributes_follow_class_and_speed(name: str, standing: str, moving: str) -> None:
    velocity = [[0.0, 0.0], [0.15, -0.12], [0.15, -0.14], [0.0, 0.19]]  # 0.192 and 0.205 m/s
    found = result_boxes(_detections([name] * 4, [[1, 2, 3]] * 4, velocity), IDENTITY)
    assert found.attribute == (standing, standing, moving, standing)


def test_every_class_has_attributes_that_the_format_knows() -> None:
    assert set(ATTRIBUTE_OF_CLASS) == set(DETECTION_CLASSES)
    assert {a for pair in ATTRIBUTE_OF_CLASS.values() for a in pair} <= {"", *ATTRIBUTES}


def test_an_unknown_velocity_counts_as_standing() -> None:
    found = result_boxes(_detections(["car"], [[1, 2, 3]], [[math.nan, math.nan]]), IDENTITY)
    assert found.attribute == ("vehicle.parked",)
    assert np.isnan(found.velocity).all()


def test_conversion_to_results_and_back_gives_the_same_boxes(root: Path) -> None:
    frame = NuScenesDataset(root, VERSION, bev_frame="lidar").frame(2, load_images=False)
    names = ["bus", "car", "pedestrian", "barrier"]
    original = _detections(
        names,
        [[3, 4, 1], [-9, 20, 0], [0.5, -7, 2], [11, -2, -1]],
        [[1, 2], [-3, 0.5], [0, 0], [4, 4]],
    )
    results = result_boxes(original, frame.world_from_bev(), frame.bev_from_ego)
    restored = results.detections(invert_se3(frame.world_from_bev()))
    torch.testing.assert_close(restored.boxes.center, original.boxes.center, atol=1e-5, rtol=0)
    torch.testing.assert_close(restored.boxes.size, original.boxes.size)
    torch.testing.assert_close(restored.boxes.yaw, original.boxes.yaw, atol=1e-6, rtol=0)
    # the format has no z component of the velocity: an error of 1 - cos(0.05 rad of tilt)
    torch.testing.assert_close(restored.boxes.velocity, original.boxes.velocity, atol=2e-2, rtol=0)
    torch.testing.assert_close(restored.scores, original.scores)
    assert restored.labels.tolist() == original.labels.tolist()


def test_conversion_back_sorts_by_score_and_keeps_the_requested_classes() -> None:
    original = _detections(["car", "bus", "car"], [[1, 0, 0], [2, 0, 0], [3, 0, 0]])
    original = dataclasses.replace(original, scores=torch.tensor([0.2, 0.9, 0.4]))
    restored = result_boxes(original, IDENTITY).detections(IDENTITY, ("truck", "car"))
    torch.testing.assert_close(restored.scores, torch.tensor([0.4, 0.2]))
    assert restored.labels.tolist() == [1, 1]
    assert restored.boxes.center[:, 0].tolist() == [3, 1]


def test_labels_index_the_models_own_classes() -> None:
    detections = _detections(["barrier", "bicycle"], [[1, 0, 0], [2, 0, 0]])  # labels 0 and 1
    found = result_boxes(detections, IDENTITY, None, ("truck", "car"))
    assert [DETECTION_CLASSES[label] for label in found.label] == ["truck", "car"]


def test_no_detections_give_no_boxes(root: Path) -> None:
    frame = NuScenesDataset(root, VERSION).frame(0, load_images=False)
    assert results_of_frame(_detections([], []), frame) == []


def test_at_most_five_hundred_boxes_are_kept_the_best() -> None:
    count = MAX_BOXES + 7
    found = result_boxes(_detections(["car"] * count, [[1, 2, 3]] * count), IDENTITY)
    assert len(found) == MAX_BOXES
    assert found.score.min() > 0.1


def test_entries_have_the_fields_of_the_format(root: Path) -> None:
    frame = NuScenesDataset(root, VERSION).frame(1, load_images=False)
    detections = _detections(["car", "pedestrian"], [[3, 4, 1], [5, -6, 1]], [[5, 0], [0, 0.1]])
    first, second = results_of_frame(detections, frame)
    assert set(first) == {
        *("sample_token", "translation", "size", "rotation", "velocity"),
        *("detection_name", "detection_score", "attribute_name"),
    }
    assert first["sample_token"] == frame.sample_token
    assert (first["detection_name"], first["attribute_name"]) == ("car", "vehicle.moving")
    assert (second["detection_name"], second["attribute_name"]) == (
        "pedestrian",
        "pedestrian.standing",
    )
    np.testing.assert_allclose(first["size"], [1.9, 4.5, 1.6], rtol=1e-6)
    assert all(type(value) is float for value in first["translation"])


def test_broken_detections_are_refused() -> None:
    good = _detections(["car", "bus"], [[3, 4, 1], [5, 6, 1]])
    broken = dataclasses.replace(good, scores=torch.tensor([0.5, math.nan]))
    with pytest.raises(ValueError, match="must be finite; got scores = nan in box 1"):
        result_boxes(broken, IDENTITY)
    center = good.boxes.center.clone()
    center[0, 2] = math.inf
    broken = dataclasses.replace(good, boxes=dataclasses.replace(good.boxes, center=center))
    with pytest.raises(ValueError, match=r"must be finite; got center = .*inf.* in box 0"):
        result_boxes(broken, IDENTITY)
    with pytest.raises(ValueError, match="got 'cat'; did you mean"):
        result_boxes(good, IDENTITY, None, ("cat", "dog"))


def test_a_frame_without_pose_or_token_cannot_enter_a_submission(root: Path) -> None:
    frame = NuScenesDataset(root, VERSION).frame(0, load_images=False)
    detections = _detections(["car"], [[3, 4, 1]])
    without = dataclasses.replace(frame, world_from_ego=None, world_from_ego_at_camera=None)
    with pytest.raises(
        ValueError, match=r"frame must have world_from_ego and sample_token .*no pose"
    ):
        results_of_frame(detections, without)
    with pytest.raises(ValueError, match="got sample_token ''"):
        results_of_frame(detections, dataclasses.replace(frame, sample_token=""))
