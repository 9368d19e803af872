"""Dense labels of a world: beside unchanged files, like its lidar, instances and ground."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.cli.main import main
from bevstack.datasets.label_files import read_depth, read_label_files, read_label_map
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.synthetic import WorldSpec, make_world
from bevstack.synthetic.recording.camera import Sensor, camera_pose, freeze, take_picture
from bevstack.synthetic.recording.dense import instance_classes, label_picture, semantic_class
from bevstack.synthetic.renderer.dense_labels import MOST_CM
from bevstack.synthetic.scene import Scene
from bevstack.tables.names import CATEGORIES
from bevstack.tables.reader import Tables
from bevstack.vocabulary import SEMANTIC_CLASSES
from tests.small_world import build_once

# Dry, so that no drop moves pixels; one sample a scene lasts long enough for every check.
SPEC = WorldSpec(
    seed=4,
    train_scenes=2,
    val_scenes=1,
    samples_per_scene=2,
    image_size=(225, 400),
    weather="overcast",
    dense_labels=True,
)
CLASS = {name: index for index, name in enumerate(SEMANTIC_CLASSES)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_once(
        tmp_path_factory, "dense_world", lambda folder: make_world(folder / "world", SPEC)
    )
    return folder / "world"


def test_other_files_are_those_of_the_world_without_labels(root: Path, tmp_path: Path):
    make_world(tmp_path / "plain", replace(SPEC, dense_labels=False))
    plain = {str(p.relative_to(tmp_path / "plain")): p for p in (tmp_path / "plain").rglob("*.*")}
    for name, path in plain.items():
        if path.is_file() and name != "world.json":
            assert path.read_bytes() == (root / name).read_bytes(), name
    added = {p.parts[-3] for p in (root / "dense").rglob("*.png")}
    assert added == {"samples"}
    assert len(list((root / "dense").rglob("*.png"))) == 3 * 2 * 6 * 2


def test_every_image_has_labels_of_its_size_and_known_classes(root: Path):
    tables = Tables(root, SPEC.version)
    files = read_label_files(tables)
    readings = zip(tables.keyframes.token, tables.keyframes.filename, strict=True)
    cameras = [token for token, name in readings if "CAM" in name]
    assert sorted(files) == sorted(cameras)
    seen = set()
    for depth_path, semantic_path in files.values():
        depth, labels = read_depth(depth_path), read_label_map(semantic_path)
        assert depth.shape == labels.shape == SPEC.image_size
        seen |= set(np.unique(labels).tolist())
        assert (np.isnan(depth) | (labels != CLASS["sky"])).all()  # the sky has no depth
    assert seen <= set(CLASS.values())
    named = {SEMANTIC_CLASSES[label] for label in seen}
    assert named >= {"sky", "road", "sidewalk", "terrain", "vehicle", "building", "vegetation"}


def test_depth_agrees_with_the_lidar_within_two_centimetres_in_the_median(root: Path):
    dataset = NuScenesDataset(root, SPEC.version)
    tables = Tables(root, SPEC.version)
    files = read_label_files(tables)
    errors = []
    for index in range(len(dataset)):
        frame = dataset.frame(index)
        rows = tables.keyframes_of(tables.sample_row(frame.sample_token))
        lidar = next(r for r in rows if "LIDAR" in tables.keyframes.filename[r])
        points = np.fromfile(root / tables.keyframes.filename[lidar], "<f4").reshape(-1, 5)[:, :3]
        sensor = tables.calibrated_sensors
        world = _to_world(tables, sensor, lidar) @ np.c_[points, np.ones(len(points))].T
        for row in rows:
            token = tables.keyframes.token[row]
            if token in files:
                camera_from_world = np.linalg.inv(_to_world(tables, sensor, row))
                inside = (camera_from_world @ world)[:3]
                matrix = sensor.intrinsics[tables.keyframes.sensor[row]]
                u, v, z = matrix @ inside
                depth = read_depth(files[token].depth)
                errors.append(_interpolate(depth, u / z, v / z, z > 1) - z)
    error = np.abs(np.concatenate(errors))
    error = error[np.isfinite(error)]
    assert len(error) > 5000
    assert np.median(error) < 0.02, np.percentile(error, (10, 50, 90))


def _interpolate(depth: np.ndarray, u: np.ndarray, v: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Interpolate depth at points in pixels; nan outside. Of a plane, 1 / depth is linear there."""
    height, width = depth.shape
    column, line = np.floor(u - 0.5), np.floor(v - 0.5)
    right, down = u - 0.5 - column, v - 0.5 - line
    inside = ahead & (column >= 0) & (line >= 0) & (column < width - 1) & (line < height - 1)
    i, j = np.where(inside, line, 0).astype(int), np.where(inside, column, 0).astype(int)
    upper = (1 - right) / depth[i, j] + right / depth[i, j + 1]
    lower = (1 - right) / depth[i + 1, j] + right / depth[i + 1, j + 1]
    return np.where(inside, 1 / ((1 - down) * upper + down * lower), np.nan)


def _to_world(tables: Tables, sensors, row: int) -> np.ndarray:
    readings, sensor = tables.keyframes, tables.keyframes.sensor[row]
    ego = _rigid(readings.rotation[row], readings.translation[row])
    return ego @ _rigid(sensors.rotation[sensor], sensors.translation[sensor])


def _rigid(quaternion: np.ndarray, translation: np.ndarray) -> np.ndarray:
    w, x, y, z = quaternion
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = translation
    return matrix


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_labels_are_those_of_the_instances_and_the_ground_below_the_ray(scene: Scene, factor: int):
    moment, classes = freeze(scene, 2.0), instance_classes(scene)
    noise = np.zeros((64, 64), np.float32)
    sensor = Sensor(supersampling=factor, gains=np.ones(3), noise=noise, noise_at=(0, 0))
    for camera in scene.rig.cameras[:2]:
        picture = take_picture(scene, moment, camera, sensor)
        labels = label_picture(scene, classes, moment, camera, picture)
        middle = slice(factor // 2, None, factor)
        instance = picture.instance[middle, middle]
        assert (labels.semantic[instance >= 0] == classes[instance[instance >= 0]]).all()
        centre, rotation = camera_pose(moment.ego_pose, camera)
        rows, columns = np.nonzero(picture.owner[middle, middle] < 0)
        at = np.stack([columns, rows]) + ((factor // 2) + 0.5) / factor
        rays = np.linalg.solve(camera.intrinsics, np.vstack([at, np.ones(len(rows))]))
        direction = rotation @ rays
        below = direction[2] < -0.004
        t = -centre[2] / direction[2, below]
        kinds = scene.ground.surface_at(*(centre[:2, None] + t * direction[:2, below]))
        wanted = np.array([CLASS["terrain"], CLASS["sidewalk"], CLASS["road"]])[kinds]
        got = labels.semantic[rows[below], columns[below]]
        assert (got == wanted).mean() > 0.999  # rays on the border of two texels may differ
        far = t * 100 + 0.5 > MOST_CM
        depth = labels.depth_cm[rows[below], columns[below]]
        assert (depth[far] == 0).all()
        assert np.abs(depth[~far] - 100 * t[~far]).max() <= 0.51
        assert (labels.semantic[rows[~below], columns[~below]] == CLASS["sky"]).all()


def test_categories_have_the_classes_of_the_documented_table():
    classes = {category: semantic_class(category) for category in CATEGORIES}
    assert classes["vehicle.bicycle"] == classes["vehicle.motorcycle"] == "two_wheeler"
    assert classes["vehicle.trailer"] == classes["vehicle.construction"] == "vehicle"
    assert classes["human.pedestrian.wheelchair"] == "person"
    assert classes["human.pedestrian.stroller"] == classes["animal"] == "other_object"


def test_labels_are_drawn_and_missing_ones_are_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shown = ["show", "--version", SPEC.version, "--dense", "--out", str(tmp_path / "out")]
    assert main([*shown, "--nuscenes", str(root), "--max-frames", "1"]) == 0
    picture = cv2.imread(capsys.readouterr().out.strip())
    assert picture.shape[1] == 3 * 400 and picture.shape[0] > 6 * 225
    make_world(tmp_path / "plain", replace(SPEC, dense_labels=False, image_size=(90, 160)))
    assert main([*shown, "--nuscenes", str(tmp_path / "plain")]) == 2
    assert "make the world with `bevstack make-world --dense`" in capsys.readouterr().err
