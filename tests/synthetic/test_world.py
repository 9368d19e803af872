"""Complete data sets: equal bytes, no partial results, refused folders, read by nuscenes-devkit."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bevstack.synthetic import WorldSpec, make_world, world, world_is_complete
from bevstack.vocabulary import CAMERA_CHANNELS
from tests.synthetic.conftest import SMALL

TINY = WorldSpec(
    seed=1, train_scenes=1, val_scenes=1, samples_per_scene=2, image_size=(90, 160), rig="n008"
)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_same_seed_gives_the_same_bytes_with_one_process_and_with_two(tmp_path: Path):
    first = make_world(tmp_path / "a", TINY)
    second = make_world(tmp_path / "b", replace(TINY, processes=2))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert first.digest == second.digest
    # two scenes of two samples of seven sensors, two maps, four CAN files, 13 + 2 tables, splits,
    # manifest
    assert len(contents(tmp_path / "a")) == 28 + 2 + 4 + 15 + 1 + 1


def test_another_seed_gives_other_pictures_and_tables(tmp_path: Path):
    make_world(tmp_path / "a", TINY)
    make_world(tmp_path / "b", replace(TINY, seed=2))
    one, other = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert one["v1.0-synth/sample_annotation.json"] != other["v1.0-synth/sample_annotation.json"]
    pictures = [{v for k, v in files.items() if k.endswith(".jpg")} for files in (one, other)]
    assert not pictures[0] & pictures[1]


def test_finished_world_is_reused_and_damage_is_detected(tmp_path: Path):
    root = tmp_path / "w"
    assert not world_is_complete(root, TINY)
    made = make_world(root, TINY)
    stamp = (root / "world.json").stat().st_mtime_ns
    again = make_world(root, replace(TINY, processes=2))
    assert (root / "world.json").stat().st_mtime_ns == stamp
    assert again.seconds == 0.0
    assert replace(again, seconds=made.seconds, cpu_seconds=made.cpu_seconds) == made
    next((root / "samples" / "CAM_BACK").iterdir()).unlink()
    assert not world_is_complete(root, TINY)
    with pytest.raises(FileExistsError, match="is damaged or outdated: choose another"):
        make_world(root, TINY)


def test_occupied_folders_are_refused_with_the_reason(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(FileExistsError, match=r"finished world; got .*photos, which holds other"):
        make_world(tmp_path / "photos", TINY)
    assert contents(tmp_path) == {"photos/cat.jpg": b"meow"}
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError, match="out_dir must be a folder; got the file"):
        make_world(tmp_path / "file", TINY)
    with pytest.raises(OSError, match=r"folder that can be written; got .*file/w .*: choose"):
        make_world(tmp_path / "file" / "w", TINY)
    make_world(tmp_path / "w", TINY)
    with pytest.raises(FileExistsError, match="whose world differs in seed, jpeg_quality:"):
        make_world(tmp_path / "w", replace(TINY, seed=9, jpeg_quality=50))


def test_an_empty_folder_is_taken_and_a_failure_leaves_it_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "w"
    root.mkdir()
    record = world.record_scene

    def fail_at_the_second(spec, name, part):
        if name in spec.split_scenes["val"]:
            raise OSError("No space left on device")
        return record(spec, name, part)

    monkeypatch.setattr(world, "record_scene", fail_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        make_world(root, TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["w"] and not list(root.iterdir())
    monkeypatch.setattr(world, "record_scene", record)
    calls = []
    make_world(root, TINY, progress=lambda done, total: calls.append((done, total)))
    assert world_is_complete(root, TINY) and calls == [(1, 2), (2, 2)]


def test_devkit_loads_it_and_every_file_is_there(world: Path, devkit):
    assert (len(devkit.scene), len(devkit.sample)) == (46, 184)
    for row in devkit.sample_data:
        assert (world / row["filename"]).is_file()
        assert row["ego_pose_token"] == row["token"]
    for row in devkit.map:
        assert (world / row["filename"]).is_file()
    sample = devkit.sample[5]
    assert set(sample["data"]) == {*CAMERA_CHANNELS, "LIDAR_TOP"}
    lidar = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
    assert lidar["timestamp"] == sample["timestamp"]
    for channel in CAMERA_CHANNELS:
        row = devkit.get("sample_data", sample["data"][channel])
        image = cv2.imread(str(world / row["filename"]))
        assert image.shape == (90, 160, 3) == (row["height"], row["width"], 3)
        assert image.std() > 10  # not uniform
        assert -45_000 <= row["timestamp"] - sample["timestamp"] <= 0


def test_lidar_file_is_five_floats_a_point_with_ground_at_the_wheels(world: Path, devkit):
    from nuscenes.utils.data_classes import LidarPointCloud

    row = devkit.get("sample_data", devkit.sample[9]["data"]["LIDAR_TOP"])
    cloud = LidarPointCloud.from_file(str(world / row["filename"])).points
    raw = np.fromfile(world / row["filename"], "<f4").reshape(-1, 5)
    assert cloud.shape == (4, len(raw)) and set(raw[:, 4]) <= set(range(32))
    # The lowest beams mostly meet the ground, 1.84 m below; the sensor leans by about 1 degree.
    near = raw[(raw[:, 4] < 3)]
    assert abs(np.median(near[:, 2]) + 1.84) < 0.15


def test_can_bus_api_of_the_devkit_reads_the_poses(world: Path, devkit):
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus

    bus = NuScenesCanBus(dataroot=str(world))
    name = devkit.scene[3]["name"]
    messages = bus.get_messages(name, "pose")
    assert len(messages) == 76  # 1.5 s at 50 Hz, both ends
    first = devkit.get("sample", devkit.scene[3]["first_sample_token"])
    pose = devkit.get("ego_pose", first["data"]["LIDAR_TOP"])
    np.testing.assert_allclose(messages[0]["pos"], pose["translation"], atol=1e-9)
    assert messages[0]["utime"] == first["timestamp"]
    times = np.array([m["utime"] for m in messages]) * 1e-6
    distance = np.linalg.norm(np.diff([m["pos"] for m in messages], axis=0), axis=1).sum()
    speed = np.mean([m["vel"][0] for m in messages])
    # The speed is sampled at 10 Hz and the distance is a chord: 2 % at most.
    assert distance == pytest.approx(speed * (times[-1] - times[0]), rel=0.02, abs=0.02)


def test_map_shows_the_ego_on_drivable_ground(world: Path, devkit):
    for number in range(0, 46, 9):
        scene = devkit.scene[number]
        row = next(m for m in devkit.map if m["log_tokens"] == [scene["log_token"]])
        mask = cv2.imread(str(world / row["filename"]), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(mask)) == {0, 255}
        sample = devkit.get("sample", scene["last_sample_token"])
        position = devkit.get("ego_pose", sample["data"]["LIDAR_TOP"])["translation"]
        column, up = (np.array(position[:2]) - row["corner_m"]) * row["pixels_per_m"]
        assert mask[mask.shape[0] - 1 - int(up), int(column)] == 255
        assert 0.03 < (mask == 255).mean() < 0.6


def test_mini_has_the_official_scene_names_and_splits(tmp_path: Path):
    from nuscenes import NuScenes
    from nuscenes.eval.common.loaders import load_gt
    from nuscenes.eval.detection.data_classes import DetectionBox

    spec = replace(TINY, version="v1.0-mini", train_scenes=8, val_scenes=2)
    make_world(tmp_path / "mini", spec)
    devkit = NuScenes("v1.0-mini", str(tmp_path / "mini"), verbose=False)
    for split, scenes in (("mini_train", 8), ("mini_val", 2)):
        truth = load_gt(devkit, split, DetectionBox)
        assert len(truth.sample_tokens) == scenes * 2


def test_splits_file_names_the_scenes_of_both_splits(world: Path, devkit):
    splits = json.loads((world / "v1.0-synth" / "splits.json").read_text())
    assert list(splits) == ["synth_train", "synth_val"]
    assert [len(v) for v in splits.values()] == [SMALL.train_scenes, SMALL.val_scenes]
    named = splits["synth_train"] + splits["synth_val"]
    assert sorted(named) == sorted(scene["name"] for scene in devkit.scene)
