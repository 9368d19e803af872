"""Exit code 2 and one sentence with a remedy after each mistake that a user can make."""

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bevstack.cli.main import main
from bevstack.models.build import save_model
from bevstack.runtime.detector import build
from tests.small_world import CONFIG, SPEC, small_world


@pytest.fixture(scope="module")
def whole_world(tmp_path_factory):
    return small_world(tmp_path_factory)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(path, build(CONFIG).model, CONFIG)
    return path


@pytest.fixture
def world(whole_world, tmp_path):
    """Return a copy of the small world that a test may damage."""
    return Path(shutil.copytree(whole_world, tmp_path / "world"))


def predict(world, weights, out, *, scene="scene-6001"):
    return [
        *("predict", "--weights", str(weights), "--nuscenes", str(world)),
        *("--version", SPEC.version, "--scene", scene, "--out", str(out)),
    ]


def expect_refusal(capsys, arguments, *parts):
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if "error:" in line]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    for part in parts:
        assert part in lines[0], lines[0]


def an_image(world):
    return sorted((world / "samples" / "CAM_FRONT").glob("*.jpg"))[-1]


def change_row(world, table, index, **fields):
    path = world / SPEC.version / f"{table}.json"
    rows = json.loads(path.read_text())
    rows[index] |= fields
    path.write_text(json.dumps(rows))


def test_missing_image(capsys, world, weights, tmp_path):
    image = an_image(world)
    image.unlink()
    arguments = predict(world, weights, tmp_path / "r.json", scene="scene-6002")
    expect_refusal(capsys, arguments, image.name, "--skip-missing")


def test_truncated_image(capsys, world, weights, tmp_path):
    image = an_image(world)
    image.write_bytes(image.read_bytes()[:3000])
    arguments = predict(world, weights, tmp_path / "r.json", scene="scene-6002")
    expect_refusal(capsys, arguments, "must be a whole file", image.name, "3000 bytes")


def test_image_of_another_size(capsys, world, weights, tmp_path):
    image = an_image(world)
    assert cv2.imwrite(str(image), np.zeros((100, 50, 3), np.uint8))
    arguments = predict(world, weights, tmp_path / "r.json", scene="scene-6002")
    expect_refusal(capsys, arguments, "must be 400x225", "50x100", image.name)


@pytest.mark.parametrize(
    "damage",
    [
        {"camera_intrinsic": [[float("nan"), 0, 0], [0, 1, 0], [0, 0, 1]]},
        {"camera_intrinsic": [[0, 0, 0], [0, 0, 0], [0, 0, 1]]},
        {"rotation": [0, 0, 0, 0]},
        {"translation": [0, float("inf"), 0]},
    ],
    ids=["nan", "singular", "no rotation", "infinite"],
)
def test_impossible_calibration(capsys, world, weights, tmp_path, damage):
    path = world / SPEC.version / "calibrated_sensor.json"
    rows = json.loads(path.read_text())
    for row in rows:
        if row["camera_intrinsic"]:
            row |= damage
    path.write_text(json.dumps(rows))
    expect_refusal(capsys, predict(world, weights, tmp_path / "r.json"), "must be", "CAM_")


def test_missing_table(capsys, world, weights, tmp_path):
    (world / SPEC.version / "ego_pose.json").unlink()
    expect_refusal(capsys, predict(world, weights, tmp_path / "r.json"), "ego_pose.json")


def test_dangling_token(capsys, world, weights, tmp_path):
    change_row(world, "sample", 0, scene_token="nowhere")
    arguments = predict(world, weights, tmp_path / "r.json")
    expect_refusal(capsys, arguments, "sample", "scene_token", "nowhere")


def test_scene_not_in_the_version(capsys, whole_world, weights, tmp_path):
    arguments = predict(whole_world, weights, tmp_path / "r.json", scene="scene-6003")
    expect_refusal(capsys, arguments, "scene-6003", "scene-6002")


def test_weights_of_another_configuration(capsys, whole_world, weights, tmp_path):
    other = dataclasses.replace(
        CONFIG, decoder=dataclasses.replace(CONFIG.decoder, num_queries=21, num_points=2)
    )
    save_model(tmp_path / "other.safetensors", build(other).model, other)
    file = tmp_path / "mine.py"
    file.write_text("from tests.small_world import CONFIG\n")
    arguments = [
        *predict(whole_world, tmp_path / "other.safetensors", tmp_path / "r.json"),
        *("--config", str(file)),
    ]
    expect_refusal(capsys, arguments, "decoder.num_points: 4 != 2", "decoder.num_queries: 20 != 21")


def test_corrupt_weights(capsys, whole_world, weights, tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(weights.read_bytes()[:5000])
    arguments = predict(whole_world, bad, tmp_path / "r.json")
    expect_refusal(capsys, arguments, "damaged or cut short", bad.name)


def test_pickled_weights(capsys, whole_world, tmp_path):
    bad = tmp_path / "bad.pth"
    torch.save({"state_dict": {}}, bad)
    arguments = predict(whole_world, bad, tmp_path / "r.json")
    expect_refusal(capsys, arguments, "safetensors", "pickled", bad.name)


def test_unknown_configuration_field(capsys, whole_world, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from bevstack.config import Config, DecoderConfig\n"
        "CONFIG = Config(name='mine', decoder=DecoderConfig(num_querys=3))\n"
    )
    arguments = [
        *("train", "--config", file, "--nuscenes", whole_world, "--version", SPEC.version),
        *("--split", "synth_train", "--out", tmp_path / "out"),
    ]
    expect_refusal(capsys, arguments, "num_querys", "did you mean 'num_queries'")


def test_output_that_cannot_be_written(capsys, whole_world, weights, tmp_path):
    (tmp_path / "file").write_text("in the way")
    arguments = predict(whole_world, weights, tmp_path / "file" / "r.json")
    expect_refusal(capsys, arguments, str(tmp_path / "file"))


def test_read_only_folder(capsys, whole_world, weights, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    arguments = predict(whole_world, weights, tmp_path / "r.json")
    expect_refusal(capsys, arguments, str(tmp_path), "must be accessible")


def test_a_full_disk_leaves_the_old_file_whole(capsys, whole_world, weights, tmp_path, monkeypatch):
    out = tmp_path / "r.json"
    out.write_text("old")
    real_fsync = os.fsync

    def full(descriptor):
        if "r.json" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    expect_refusal(
        capsys, predict(whole_world, weights, out), "must fit on the disk", "free some space"
    )
    assert out.read_text() == "old"


def test_split_and_version_are_checked_before_the_model_is_loaded(
    capsys, whole_world, weights, tmp_path, monkeypatch
):
    def fail(*args, **options):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("bevstack.runtime.loading.load", fail)
    good = predict(whole_world, weights, tmp_path / "r.json")
    for option, value, part in (
        ("--version", "v1.0-sinth", "v1.0-sinth"),
        ("--scene", "scene-1", "scene-1"),
        ("--split", "synth_vall", "did you mean 'synth_val'"),
        ("--nuscenes", "nowhere", "nowhere"),
    ):
        arguments = [
            *good[: good.index("--scene")],
            "--out",
            tmp_path / "r.json",
            "--scene",
            "scene-6001",
        ]
        if option in ("--scene", "--split"):
            arguments = arguments[:-2]
        expect_refusal(capsys, [*arguments, option, value], part)


def test_overrides_of_loaded_weights_keep_their_shapes(capsys, whole_world, weights, tmp_path):
    out = tmp_path / "r.json"
    arguments = predict(whole_world, weights, out)
    most = []
    for more in ([], ["decoder.max_detections=5"]):
        assert main([*arguments, *more]) == 0
        most.append(max(len(boxes) for boxes in json.loads(out.read_text())["results"].values()))
    assert most[0] > 5 >= most[1] > 0
    capsys.readouterr()
    refused = [*arguments, "decoder.num_queries=21"]
    expect_refusal(capsys, refused, "must keep the shapes of the weights", "(21, ", "(20, ")
    expect_refusal(capsys, [*arguments, "decoder.max_detection=5"], "decoder.max_detections")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["predict", "--out", "r.json"], "--config, --weights or --model must be given"),
        (["predict", "--config", "tiny_cpu", "--out", "r.json"], "--nuscenes ROOT or --rig FILE"),
        (
            ["predict", "--config", "tiny_cpu", "--nuscenes", "x", "--out", "r.json"],
            "--version must be given",
        ),
        (
            ["predict", "--config", "tiny_cpuu", "--rig", "x", "--images", "y", "--out", "r.json"],
            "did you mean 'tiny_cpu'",
        ),
        (
            ["predict", "--config", "tiny_cpu", "--rig", "x", "--images", "y", "--out", "r.json"],
            "rig file must exist; got no file x",
        ),
        (
            ["predict", "--weights", "none", "--rig", "x", "--images", "y", "--out", "r.json"],
            "none",
        ),
    ],
)
def test_arguments_that_do_not_fit(capsys, tmp_path, monkeypatch, arguments, part):
    monkeypatch.chdir(tmp_path)
    expect_refusal(capsys, arguments, part)


def test_a_rig_that_cannot_be_is_noted_or_refused(weights, tmp_path, capsys):
    rig = json.loads((Path(__file__).parents[2] / "docs" / "rig_example.json").read_text())
    for camera in rig["cameras"]:
        image = np.full((camera["height"], camera["width"], 3), 90, np.uint8)
        assert cv2.imwrite(str(tmp_path / camera["image"]), image)
        w, x, y, z = camera["ego_from_cam"]["rotation_wxyz"]
        camera["ego_from_cam"]["rotation_wxyz"] = [w, -x, -y, -z]  # the inverse
    (tmp_path / "rig.json").write_text(json.dumps(rig))
    arguments = [
        *("predict", "--weights", weights, "--rig", tmp_path / "rig.json"),
        *("--images", tmp_path, "--out", tmp_path / "r.json"),
    ]
    assert main([str(argument) for argument in arguments]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "note: camera" in line]
    assert len(notes) >= 4 and all("cam_from_ego" in note for note in notes)
    expect_refusal(capsys, [*arguments, "--strict-rig"], "camera 'CAM_FRONT' must be upright; got")


def test_a_data_set_with_a_rig_that_cannot_be_is_noted_or_refused(world, weights, tmp_path, capsys):
    path = world / SPEC.version / "calibrated_sensor.json"
    rows = json.loads(path.read_text())
    for row in rows:
        if row["camera_intrinsic"]:
            row["translation"] = [1000 * value for value in row["translation"]]
    path.write_text(json.dumps(rows))
    arguments = predict(world, weights, tmp_path / "r.json")
    expect_refusal(capsys, [*arguments, "--strict-rig"], "must be within 10 m", "in millimetres")
    assert main(arguments) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "note: camera" in line]
    assert len(notes) == 6  # from the data set; its stream does not repeat them
