"""Frames of information files equal those of the tables that the files were made from."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.interop.info_files import InfoFile, read_info_file
from bevstack.types import Frame
from bevstack.vocabulary import DETECTION_CLASSES
from tests.conftest import shared_dir
from tests.interop.info_contents import CLASSES, Tables, data_list, info
from tests.small_world import SPEC, small_world

# data_list stores poses in float32: up to 6e-8 of a place at 1 km from the world's origin, and 3e-8
# of a rotation, which that distance multiplies
DATA_LIST_POSE_M = 2e-4
# Headings and velocities of a file are vectors seen along the lidar's vertical axis. Seen along the
# ego's, up to two degrees off, they differ by a part of 1 - cos(2 deg) = 6e-4: 0.02 m/s of 30 m/s.
TILT = 2e-2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world(tmp_path_factory)


@pytest.fixture(scope="module")
def dataset(world: Path) -> NuScenesDataset:
    return NuScenesDataset(world, SPEC.version, split="synth_train", bev_frame="lidar")


@pytest.fixture(scope="module")
def infos(world: Path, dataset: NuScenesDataset) -> list[dict[str, Any]]:
    """Return the entries of ``infos`` of all samples."""
    tables = Tables(world, SPEC.version)
    entries = []
    for row in range(len(dataset)):
        frame = dataset.frame(row, load_images=False)
        marks = [
            mark["token"]
            for mark in tables.all["sample_annotation"]
            if mark["sample_token"] == frame.sample_token and tables.category(mark) in CLASSES
        ]
        assert frame.annotations is not None
        velocities = dict(zip(marks, frame.annotations.boxes.velocity.numpy(), strict=True))
        entries.append(info(tables, tables.by["sample"][frame.sample_token], velocities))
    return entries


def write(folder: Path, content: object, protocol: int = 2) -> Path:
    path = folder / "nuscenes_infos_val.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def expect_equal(found: Frame, wanted: Frame, pose_m: float, tilt: float = 1e-5) -> None:
    order = [found.camera_names.index(name) for name in wanted.camera_names]
    torch.testing.assert_close(found.intrinsics[order], wanted.intrinsics, rtol=0, atol=1e-9)
    for name in ("ego_from_cam", "world_from_ego_at_camera"):
        assert getattr(found, name) is not None
        torch.testing.assert_close(
            getattr(found, name)[order], getattr(wanted, name), rtol=0, atol=pose_m
        )
    for name in ("world_from_ego", "bev_from_ego"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=0, atol=pose_m)
    assert (found.sample_token, found.timestamp_us) == (wanted.sample_token, wanted.timestamp_us)
    assert [found.camera_timestamp_us[n] for n in order] == list(wanted.camera_timestamp_us)
    one, two = found.annotations, wanted.annotations
    assert one is not None and two is not None and len(two) > 3
    for name, limit in (("center", 1e-5), ("size", 1e-6), ("velocity", tilt)):
        torch.testing.assert_close(
            getattr(one.boxes, name), getattr(two.boxes, name), rtol=0, atol=limit, equal_nan=True
        )
    turn = torch.remainder(one.boxes.yaw - two.boxes.yaw + math.pi, 2 * math.pi) - math.pi
    assert float(turn.abs().max()) < tilt
    assert torch.equal(one.labels, two.labels) and torch.equal(one.num_points, two.num_points)


@pytest.mark.parametrize("bev_frame", ["lidar", "ego"])
@pytest.mark.parametrize("form", ["infos", "list", "data_list"])
def test_frames_equal_those_of_the_tables(
    world: Path,
    dataset: NuScenesDataset,
    infos: list[dict[str, Any]],
    tmp_path: Path,
    form: str,
    bev_frame: str,
) -> None:
    contents = {
        "infos": {"infos": infos, "metadata": {"version": SPEC.version}},
        "list": infos,
        "data_list": data_list(infos, SPEC.version),
    }
    file = read_info_file(write(tmp_path, contents[form]))
    assert file.version == ("" if form == "list" else SPEC.version)
    assert file.tokens == tuple(dataset.sample_token(row) for row in range(len(dataset)))
    wanted = NuScenesDataset(world, SPEC.version, split="synth_train", bev_frame=bev_frame)
    for row in range(len(file)):
        found = file.frame(row, bev_frame=bev_frame)
        pose_m = DATA_LIST_POSE_M if form == "data_list" else 1e-9
        tilt = 1e-5 if bev_frame == "lidar" else TILT
        expect_equal(found, wanted.frame(row, load_images=False), pose_m, tilt)
        assert found.images == [None] * 6


def test_images_are_read_below_the_folder_of_the_data_set(
    world: Path, dataset: NuScenesDataset, infos: list[dict[str, Any]], tmp_path: Path
) -> None:
    for content in (infos, data_list(infos, SPEC.version)):
        found = read_info_file(write(tmp_path, content)).frame(1, world)
        for one, two in zip(found.images, dataset.frame(1).images, strict=True):
            assert one is not None and two is not None
            np.testing.assert_array_equal(one, two)


def legacy(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry as mmdetection3d before 1.0 wrote it."""
    boxes = entry["gt_boxes"]
    turned = np.concatenate((boxes[:, :3], boxes[:, [4, 3, 5]], -boxes[:, 6:] - np.pi / 2), 1)
    return {**entry, "gt_boxes": turned}


def test_the_older_box_convention_is_found_and_read(
    dataset: NuScenesDataset, infos: list[dict[str, Any]], tmp_path: Path
) -> None:
    older = [legacy(entry) for entry in infos]
    for boxes in (None, "legacy"):
        file = read_info_file(write(tmp_path, older), boxes=boxes)
        assert file.boxes == "legacy"
        expect_equal(file.frame(2), dataset.frame(2, load_images=False), 1e-9)
    assert read_info_file(write(tmp_path, infos)).boxes == "modern"


def test_a_convention_that_vehicles_do_not_show_must_be_named(
    infos: list[dict[str, Any]], tmp_path: Path
) -> None:
    mixed = [legacy(infos[0]), *infos[1:]]
    with pytest.raises(ValueError, match=r"must be named, since .* vehicles are longer"):
        read_info_file(write(tmp_path, mixed))
    people = [{**infos[0], "gt_names": np.array(["pedestrian"] * len(infos[0]["gt_boxes"]))}]
    with pytest.raises(ValueError, match="since 0 of 0 vehicles"):
        read_info_file(write(tmp_path, people))
    assert read_info_file(write(tmp_path, people), boxes="modern").boxes == "modern"
    with pytest.raises(ValueError, match="boxes of data_list must be modern"):
        read_info_file(write(tmp_path, data_list(infos, "v")), boxes="legacy")
    with pytest.raises(ValueError, match="boxes must be one of legacy, modern"):
        read_info_file(write(tmp_path, infos), boxes="new")


def test_samples_without_boxes_and_classes_outside_the_list(
    infos: list[dict[str, Any]], tmp_path: Path
) -> None:
    empty = {
        **infos[0],
        "gt_boxes": np.zeros((0, 7)),
        "gt_names": np.array([]),
        "gt_velocity": np.zeros((0, 2)),
        **{f"num_{kind}_pts": np.array([]) for kind in ("lidar", "radar")},
        "valid_flag": np.array([], dtype=bool),
    }
    test_set = {key: value for key, value in infos[1].items() if not key.startswith("gt_")}
    for content in ([empty, test_set], data_list([empty], "v")):
        file = read_info_file(write(tmp_path, content))
        annotations = file.frame(0).annotations
        assert annotations is not None and len(annotations) == 0
        if len(file) > 1:
            assert file.frame(1).annotations is None
    names = infos[0]["gt_names"].astype("U32")
    names[0] = "vehicle.emergency.police"
    for content in (
        [{**infos[0], "gt_names": names}],
        data_list([{**infos[0], "gt_names": names}], "v"),
    ):
        file = read_info_file(write(tmp_path, content))
        assert len(file.sample(0).names) == len(names)
        all_classes = file.frame(0).annotations
        assert all_classes is not None
        assert len(all_classes) == int(np.isin(names, CLASSES).sum()) < len(names)
        cars = file.frame(0, class_names=("car",)).annotations
        assert cars is not None and len(cars) == int((names == "car").sum())
        assert set(cars.labels.tolist()) <= {0}


def changed(entry: dict[str, Any], camera: str | None = None, **changes: object) -> dict[str, Any]:
    """Return an entry with changed values; a value of None removes the key."""
    inner = entry if camera is None else entry["cams"][camera]
    inner = {k: v for k, v in {**inner, **changes}.items() if v is not None}
    return inner if camera is None else {**entry, "cams": {**entry["cams"], camera: inner}}


@pytest.mark.parametrize(
    ("camera", "changes", "fault"),
    [
        (None, {"lidar2ego_rotation": None}, "must have the entry 'lidar2ego_rotation'"),
        (None, {"lidar2ego_rotation": [0.0] * 4}, "lidar2ego_rotation: quaternion must"),
        (None, {"ego2global_translation": [1.0, math.nan, 0.0]}, "must be finite; got nan"),
        (None, {"ego2global_translation": "far"}, "must hold numbers; got str"),
        (None, {"gt_velocity": np.zeros((1, 2))}, "gt_velocity must have the shape"),
        (None, {"gt_names": np.array(["car"])}, "gt_names must be"),
        (None, {"timestamp": 1.5}, "timestamp must be a whole number"),
        (None, {"cams": {}}, "cams must hold one camera or more"),
        ("CAM_BACK", {"cam_intrinsic": np.zeros((3, 3))}, "cams.CAM_BACK.cam_intrinsic"),
        ("CAM_BACK", {"cam_intrinsic": np.eye(2)}, "must have 3 rows"),
        ("CAM_BACK", {"data_path": 7}, "cams.CAM_BACK.data_path must be a text"),
    ],
)
def test_bad_samples_are_named_in_one_sentence(
    infos: list[dict[str, Any]], tmp_path: Path, camera: str | None, changes: Any, fault: str
) -> None:
    path = write(tmp_path, [infos[0], changed(infos[1], camera, **changes)])
    file = read_info_file(path, boxes="modern")
    assert len(file.sample(0).cameras) == 6
    with pytest.raises(ValueError, match="info file must hold whole samples") as caught:
        file.sample(1)
    text = str(caught.value)
    assert fault in text and str(path) in text and infos[1]["token"] in text and "\n" not in text


def test_bad_data_lists_are_named(infos: list[dict[str, Any]], tmp_path: Path) -> None:
    good = data_list(infos[:1], "v")
    entry = good["data_list"][0]
    camera = entry["images"]["CAM_FRONT"]
    skewed = (np.diag([2.0, 1.0, 1.0, 1.0])).tolist()
    for change, fault in (
        ({"images": {"CAM_FRONT": {**camera, "lidar2cam": skewed}}}, "must be a rigid motion"),
        ({"images": {"CAM_FRONT": {**camera, "cam2ego": [[1.0, 0.0]]}}}, "must have the shape"),
        ({"instances": {"a": 1}}, "instances must be a list"),
        ({"instances": [{}]}, "instances[0] must have the entry 'bbox_3d'"),
        ({"lidar_points": None}, "lidar_points must be a dictionary"),
    ):
        path = write(tmp_path, {**good, "data_list": [{**entry, **change}]})
        with pytest.raises(ValueError, match="info file must hold whole samples") as caught:
            read_info_file(path).sample(0)
        assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"infos": [{"token": "a", "cams": {}}] * 2}, "tokens must differ; got 'a' twice"),
        ({"infos": [{"image": {}, "point_cloud": {}}]}, "must have the entry 'cams'; got 'image'"),
        ({"infos": {"a": 1}}, "content.infos must be a list"),
        ({"images": []}, "content must have the entry 'infos'"),
        ("text", "its content must be a dictionary or a list; got str"),
        ([1], "sample 0 must be a dictionary; got int"),
        ({"data_list": [], "metainfo": {"categories": {1: 2}}}, "categories must be labels"),
        ({"data_list": []}, "must have the entry 'metainfo'"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, content: object, fault: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match="must be one of mmdetection3d for nuScenes") as caught:
        read_info_file(path)
    assert fault in str(caught.value) and str(path) in str(caught.value)


def shared_info(name: str) -> InfoFile | dict[str, Any]:
    folder = shared_dir()
    if folder is None:
        pytest.skip("no stored data: neither ../shared nor $BEVSTACK_SHARED")
    path = folder / "data" / "nuscenes_scene0061_f0" / "info" / name
    return json.loads(path.read_text(encoding="utf-8"))


def as_arrays(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of ``infos`` from JSON with its arrays, as the pickle has them."""
    names = ("cam_intrinsic", "sensor2lidar_rotation", "sensor2lidar_translation")
    cameras = {
        name: {**camera, **{key: np.array(camera[key]) for key in names}}
        for name, camera in entry["cams"].items()
    }
    return {**entry, "cams": cameras}


def test_both_forms_of_a_real_frame_agree_and_hold_its_boxes(tmp_path: Path) -> None:
    older = shared_info("mmdet3d_v0_info_exact_poses.json")
    older["infos"] = [as_arrays(entry) for entry in older["infos"]]
    first = read_info_file(write(tmp_path, older)).frame(0)
    second = read_info_file(write(tmp_path, shared_info("mmdet3d_v1_info.json"))).frame(0)
    assert first.annotations is None  # written for the test set
    assert (first.sample_token, first.timestamp_us) == (second.sample_token, second.timestamp_us)
    assert first.camera_names == second.camera_names
    assert first.camera_timestamp_us == second.camera_timestamp_us
    # what the model uses: the cameras in the lidar frame; float32 in the newer form
    torch.testing.assert_close(first.bev_from_cam(), second.bev_from_cam(), rtol=0, atol=2e-6)
    torch.testing.assert_close(first.intrinsics, second.intrinsics, rtol=0, atol=1e-9)
    annotations = second.annotations
    assert annotations is not None and len(annotations) > 50
    names = {DETECTION_CLASSES[label] for label in annotations.labels.tolist()}
    assert {"car", "pedestrian"} <= names
    cars = annotations.boxes.size[annotations.labels == DETECTION_CLASSES.index("car")]
    assert bool((cars[:, 0] > cars[:, 1]).all())
