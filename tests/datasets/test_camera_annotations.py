from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bevstack.config import Config, FPNConfig, PerspectiveConfig
from bevstack.datasets.camera_annotations import CAMERA_ATTRIBUTES
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.types.perspective import (
    UNKNOWN_ATTRIBUTE,
    UNKNOWN_VISIBILITY,
    CameraAnnotations,
)
from bevstack.vocabulary import ATTRIBUTES, DETECTION_CLASSES
from tests.tables.devkit import open_devkit
from tests.tables.tiny_root import VERSION, camera_rotation, read_table, token, write_tables

FOCAL, WIDTH, HEIGHT = 100.0, 80, 48  # of the front camera; its principal point is the image centre


def _annotate_front_camera(root: Path, boxes: list[dict]) -> tuple[CameraAnnotations, ...]:
    """Write these boxes, given in the front camera's axes, to the first sample of scene-0103.

    The vehicle and the camera are level, so x right, y down, z forward is world -y, -z, x.
    """
    mounts = read_table(root, "calibrated_sensor")
    for row in mounts:
        if row["token"] == token("calibration", "scene-0103", "CAM_FRONT"):
            row["translation"] = [0.0, 0.0, 0.0]
            row["rotation"] = camera_rotation(0.0)
            row["camera_intrinsic"] = [
                [FOCAL, 0.0, WIDTH / 2],
                [0.0, FOCAL, HEIGHT / 2],
                [0.0, 0.0, 1.0],
            ]
    poses = read_table(root, "ego_pose")
    for row in poses:
        if row["token"] == token("reading", "scene-0103", 0, "CAM_FRONT"):
            row["translation"], row["rotation"] = [500.0, 900.0, 0.0], [1.0, 0.0, 0.0, 0.0]
    template = read_table(root, "sample_annotation")[0]
    rows = []
    for number, box in enumerate(boxes):
        x, y, z = box.pop("center")
        length, width, height = box.pop("size")
        geometry = {"translation": [500.0 + z, 900.0 - x, -y], "size": [width, length, height]}
        links = {"token": token("box", number), "prev": "", "next": "", "rotation": [1, 0, 0, 0]}
        counts = {"num_lidar_pts": 2, "num_radar_pts": 1}
        rows.append({**template, **geometry, **links, **counts, **box})
    write_tables(root, {"calibrated_sensor": mounts, "ego_pose": poses, "sample_annotation": rows})
    frame = NuScenesDataset(root, VERSION).frame(0, False, camera_annotations=True)
    return frame.camera_annotations


def _front(root: Path, *boxes: dict) -> CameraAnnotations:
    return _annotate_front_camera(root, list(boxes))[0]


def test_a_box_straight_ahead_by_hand(root: Path) -> None:
    """Project a box 4 m long, 2 wide, 1 high and 12 m ahead: its near face sets the outline."""
    found = _front(root, {"center": (1.0, 0.5, 12.0), "size": (4.0, 2.0, 1.0)})
    assert len(found) == 1
    # u = 40 + 100 * (0..2) / (10 or 14); v = 24 + 100 * (0..1) / (10 or 14)
    torch.testing.assert_close(found.boxes_px, torch.tensor([[40.0, 24.0, 60.0, 34.0]]))
    torch.testing.assert_close(found.center_m, torch.tensor([[1.0, 0.5, 12.0]]))
    torch.testing.assert_close(found.size_m, torch.tensor([[4.0, 2.0, 1.0]]))
    # x forward, y left, z up to x right, y down, z forward: 120 degrees about (1, -1, 1)
    turned = found.quaternion[0] * found.quaternion[0, 0].sign()
    torch.testing.assert_close(turned, torch.tensor([0.5, 0.5, -0.5, 0.5]))
    assert found.labels.tolist() == [DETECTION_CLASSES.index("car")]
    assert found.attributes.tolist() == [0]  # vehicle.moving
    assert math.isnan(found.speed_mps[0])  # seen once


@pytest.mark.parametrize(
    ("lidar", "radar", "kept"), [(0, 0, 0), (2, 0, 0), (1, 1, 0), (0, 3, 1), (2, 1, 1), (9, 0, 1)]
)
def test_boxes_of_fewer_than_three_points_are_left_out(
    root: Path, lidar: int, radar: int, kept: int
) -> None:
    points = {"num_lidar_pts": lidar, "num_radar_pts": radar}
    assert len(_front(root, {"center": (0, 0, 12.0), "size": (4.0, 2.0, 1.0), **points})) == kept


@pytest.mark.parametrize(("min_points", "kept"), [(0, 3), (1, 2), (3, 1)])
def test_the_configuration_sets_the_minimum_of_points_in_a_learned_box(
    root: Path, min_points: int, kept: int
) -> None:
    box = {"center": (0, 0, 12.0), "size": (4.0, 2.0, 1.0), "num_radar_pts": 0}
    _front(root, *({**box, "num_lidar_pts": points} for points in (0, 2, 3)))
    config = Config(
        name="points",
        perspective=PerspectiveConfig(min_points=min_points),
        fpn=FPNConfig(num_outputs=5),
    )
    frame = NuScenesDataset(root, VERSION).frame(0, camera_annotations=True, images_for=config)
    assert len(frame.camera_annotations[0]) == kept


@pytest.mark.parametrize(("shift", "kept"), [(0.0, 1), (1.58, 1), (1.62, 0), (1.9, 0), (2.5, 0)])
def test_a_fifth_of_the_outline_must_lie_in_the_image(root: Path, shift: float, kept: int) -> None:
    """Shift a flat box of 2 m at 10 m (20 pixels) until only 4 pixels are in the image."""
    thin = {"center": (3.0 + shift, 0.0, 10.0), "size": (1e-6, 2.0, 1.0)}
    found = _front(root, thin)
    assert len(found) == kept
    if kept:
        wanted = [60.0 + 10 * shift, 19.0, min(80.0 + 10 * shift, 80.0), 29.0]
        torch.testing.assert_close(found.boxes_px[0], torch.tensor(wanted))


def test_a_box_that_fills_more_than_the_image_is_kept_without_a_corner_in_it(root: Path) -> None:
    """Project a box of 24 m x 14 m at 20 m: 120 x 70 pixels, of which 80 x 48 are the image."""
    found = _front(root, {"center": (0.0, 0.0, 20.0), "size": (1e-6, 24.0, 14.0)})
    torch.testing.assert_close(found.boxes_px, torch.tensor([[0.0, 0.0, 80.0, 48.0]]))


@pytest.mark.parametrize(
    ("depth", "kept"), [(-5.0, 0), (-1.0, 0), (1.9, 0), (2.05, 0), (2.15, 1), (3.0, 1)]
)
def test_a_box_that_reaches_behind_the_camera_has_no_outline(
    root: Path, depth: float, kept: int
) -> None:
    """Move a box 4 m long: its near face lies at depth - 2 m, and must be 0.1 m ahead.

    The box is so narrow that the part ahead of the camera is entirely in the image.
    """
    boxes = [{"center": (0.0, 0.0, depth), "size": (4.0, 0.01, 0.01)}]
    front, *remaining = _annotate_front_camera(root, boxes)
    assert len(front) == kept
    assert all(len(camera) == 0 for camera in remaining[:2])  # they point sideways


def test_each_attribute_has_one_of_three_indices(root: Path) -> None:
    attributes = [{"token": token("attribute", name), "name": name} for name in ATTRIBUTES]
    write_tables(root, {"attribute": attributes})
    tokens = [[row["token"]] for row in attributes]
    boxes = [
        {"center": (0, 0, 12.0), "size": (4.0, 2.0, 1.0), "attribute_tokens": given}
        for given in (*tokens, [])
    ]
    found = _front(root, *boxes).attributes.tolist()
    assert dict(zip(ATTRIBUTES, found, strict=False)) == {
        "vehicle.moving": 0,
        "vehicle.parked": 1,
        "vehicle.stopped": 2,
        "pedestrian.moving": 0,
        "pedestrian.standing": 1,
        "pedestrian.sitting_lying_down": 2,
        "cycle.with_rider": 0,
        "cycle.without_rider": 1,
    }
    assert found[-1] == UNKNOWN_ATTRIBUTE
    assert set(CAMERA_ATTRIBUTES) == set(ATTRIBUTES)


def test_each_box_has_its_level_of_visibility(root: Path) -> None:
    boxes = [
        {"center": (0, 0, 12.0 + place), "size": (4.0, 2.0, 1.0), "visibility_token": level}
        for place, level in enumerate(("1", "4", "", "2", "3"))
    ]
    found = _front(root, *boxes)
    assert found.levels().tolist() == [1, 4, UNKNOWN_VISIBILITY, 2, 3]
    assert found[torch.tensor([3, 0])].to("cpu").levels().tolist() == [2, 1]
    fields = [getattr(found, name) for name in ("boxes_px", "labels", "quaternion", "center_m")]
    fields += [getattr(found, name) for name in ("size_m", "attributes", "speed_mps")]
    assert CameraAnnotations(*fields).levels().tolist() == [UNKNOWN_VISIBILITY] * 5
    with pytest.raises(ValueError, match=r"visibility must have shape"):
        CameraAnnotations(*fields, visibility=torch.ones(4, dtype=torch.int64))


def test_an_attribute_of_another_dataset_is_unknown(root: Path) -> None:
    rows = [{**row, "name": f"own.{n}"} for n, row in enumerate(read_table(root, "attribute"))]
    write_tables(root, {"attribute": rows})
    found = _front(root, {"center": (0, 0, 12.0), "size": (4.0, 2.0, 1.0)})
    assert found.attributes.tolist() == [UNKNOWN_ATTRIBUTE]


def test_camera_annotations_are_made_on_request_only(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    assert dataset.frame(1).camera_annotations is None
    assert len(dataset.frame(1, camera_annotations=True).camera_annotations) == 6
    assert len(dataset.frame(5, camera_annotations=True).camera_annotations) == 4
    write_tables(root, {"sample_annotation": [], "instance": []})
    truthless = NuScenesDataset(root, VERSION).frame(1, camera_annotations=True)
    assert truthless.camera_annotations is None


def test_a_sample_without_boxes_has_cameras_without_boxes(root: Path) -> None:
    gone = token("sample", "scene-0103", 1)
    rows = read_table(root, "sample_annotation")
    for row in rows:  # unlink the boxes that remain in the other samples
        row.update(prev="", next="")
    write_tables(root, {"sample_annotation": [r for r in rows if r["sample_token"] != gone]})
    frame = NuScenesDataset(root, VERSION).frame(1, camera_annotations=True)
    assert [len(camera) for camera in frame.camera_annotations] == [0] * 6


def test_labels_index_into_the_classes_asked_for(root: Path) -> None:
    boxes = [{"center": (0.0, 0.0, 12.0), "size": (4.0, 2.0, 1.0)}]
    _annotate_front_camera(root, boxes)
    for names, labels in ((("bus", "car"), [1]), (("bus", "truck"), [])):
        dataset = NuScenesDataset(root, VERSION, class_names=names)
        front = dataset.frame(0, camera_annotations=True).camera_annotations[0]
        assert front.labels.tolist() == labels


@pytest.mark.oracle("data_camera_annotations_against_devkit")
@pytest.mark.parametrize("bev_frame", ["ego", "lidar"])
def test_real_boxes_equal_the_devkits_projected_corners(
    real_root: Path, tmp_path: Path, bev_frame: str
) -> None:
    devkit = open_devkit(real_root, VERSION, tmp_path)
    geometry = pytest.importorskip("nuscenes.utils.geometry_utils")
    detection_name = pytest.importorskip("nuscenes.eval.detection.utils").category_to_detection_name
    dataset = NuScenesDataset(real_root, VERSION, split="mini_val", bev_frame=bev_frame)
    total, left_out = 0, 0
    for index in range(0, len(dataset), 9):
        frame = dataset.frame(index, load_images=False, camera_annotations=True)
        sample = devkit.get("sample", frame.sample_token)
        for channel, ours in zip(frame.camera_names, frame.camera_annotations, strict=True):
            data = sample["data"][channel]
            everything = geometry.BoxVisibility.NONE
            _, boxes, matrix = devkit.get_sample_data(data, everything)  # in the camera's frame
            rows = []
            for box in boxes:
                annotation = devkit.get("sample_annotation", box.token)
                points = annotation["num_lidar_pts"] + annotation["num_radar_pts"]
                corners = box.corners()
                if detection_name(box.name) is None or points < 3 or corners[2].min() <= 0.1:
                    continue
                projected = geometry.view_points(corners, matrix, normalize=True)[:2]
                full = (*projected.min(1), *projected.max(1))
                inside = np.clip(full, 0, (1600, 900, 1600, 900))
                shares = (inside[2:] - inside[:2]).prod() / (np.subtract(full[2:], full[:2])).prod()
                if shares >= 0.2:
                    rows.append((box, annotation, inside))
                else:
                    left_out += 1
            assert [DETECTION_CLASSES[n] for n in ours.labels] == [
                detection_name(box.name) for box, _, _ in rows
            ]
            for row, (box, annotation, inside) in enumerate(rows):
                # float32 pixels and metres of up to 1600 and 150
                np.testing.assert_allclose(ours.boxes_px[row], inside, atol=2e-4)
                np.testing.assert_allclose(ours.center_m[row], box.center, atol=1.5e-5)
                np.testing.assert_allclose(ours.size_m[row], box.wlh[[1, 0, 2]], rtol=1e-6)
                turned = abs(float(np.dot(ours.quaternion[row].double(), box.orientation.elements)))
                assert turned == pytest.approx(1.0, abs=1e-6)  # equal up to the sign
                speed = np.linalg.norm(devkit.box_velocity(box.token)[:2])
                np.testing.assert_allclose(ours.speed_mps[row], speed, rtol=1e-6, atol=1e-6)
                names = [devkit.get("attribute", t)["name"] for t in annotation["attribute_tokens"]]
                wanted = [CAMERA_ATTRIBUTES[name] for name in names] or [UNKNOWN_ATTRIBUTE]
                assert [int(ours.attributes[row])] == wanted
                total += 1
            assert (ours.center_m[:, 2] > 0).all()
    assert total > 300
    assert left_out > 300
