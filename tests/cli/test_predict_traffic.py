"""`bevstack predict` and `show` with weights of both tasks: files, words and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import bevstack
from bevstack.cli.main import main
from bevstack.evaluation.traffic.traffic_frames import read_traffic_frames
from bevstack.models.build import build_model, save_model
from bevstack.runtime.with_cues import CuedStream
from bevstack.tables.picture_elements import read_picture_elements
from bevstack.vocabulary import MANOEUVRES
from tests.runtime.drives import export_scene, write_rig
from tests.runtime.traffic_weights import write_both
from tests.small_world import CONFIG, SPEC, dataset, small_world

SCENE = "scene-6001"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return small_world(tmp_path_factory)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_both(tmp_path_factory.mktemp("weights") / "both.safetensors")


def predict(weights: Path, out: Path, *arguments: str) -> int:
    return main(["predict", "--weights", str(weights), "--out", str(out), *arguments])


def in_scene(root: Path) -> list[str]:
    return ["--nuscenes", str(root), "--version", SPEC.version, "--scene", SCENE]


def test_loaded_weights_of_both_tasks_stream_boxes_and_cues(root, weights) -> None:
    detector = bevstack.load(weights)
    assert detector.tasks == ("detection3d", "traffic")
    stream = detector.stream()
    assert isinstance(stream, CuedStream)
    for index in range(2):
        frame = dataset(root, "synth_val").frame(index)
        assert len(stream.step(frame))
    assert [cue.manoeuvre for cue in stream.state.ego_cues] == list(MANOEUVRES)
    assert stream.state.elements is not None and len(stream.state.elements)


def test_a_scene_gives_boxes_and_cues_and_both_are_drawn(root, weights, tmp_path, capsys) -> None:
    out = tmp_path / "results.json"
    assert predict(weights, out, *in_scene(root), "--track") == 0
    cues = tmp_path / "results_cues.json"
    printed = capsys.readouterr().out.replace("\n", "")
    assert f"lights, signs and cues: {cues}" in printed
    assert len(read_traffic_frames(cues).frames) == SPEC.samples_per_scene
    show = ["show", "--results", str(out), "--nuscenes", str(root), "--version", SPEC.version]
    assert main([*show, "--max-frames", "1", "--out", str(tmp_path / "with")]) == 0
    cues.unlink()
    assert main([*show, "--max-frames", "1", "--out", str(tmp_path / "without")]) == 0
    heights = [
        cv2.imread(str(next((tmp_path / name).iterdir()))).shape[0] for name in ("with", "without")
    ]
    assert heights[0] == heights[1]  # the truth of the world has a panel of its own
    assert main([*show, "--cues", str(cues), "--out", str(tmp_path / "none")]) == 2


def test_the_truth_alone_is_drawn_without_results(root, tmp_path, capsys) -> None:
    arguments = ["show", "--nuscenes", str(root), "--version", SPEC.version, "--max-frames", "1"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert main([*arguments, "--no-truth", "--out", str(tmp_path)]) == 2
    assert "--results FILE must be given with --no-truth" in capsys.readouterr().err


def test_boxes_do_not_depend_on_cues_and_cues_can_be_left_out(root, weights, tmp_path) -> None:
    assert (
        predict(weights, tmp_path / "a.json", *in_scene(root), "--cues", str(tmp_path / "c")) == 0
    )
    assert predict(weights, tmp_path / "b.json", *in_scene(root), "--no-cues") == 0
    # images of this world are too small to be decoded at a fraction of their size
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json", "c"]


def test_rigs_and_drives_give_cues_too(root, weights, tmp_path, capsys) -> None:
    data = dataset(root, "synth_val")
    rig = write_rig(data, SCENE, tmp_path / "rig.json")
    drive = export_scene(data, SCENE, tmp_path / "drive")
    out = tmp_path / "drive.json"
    start_us = data.frame(data.scene_indices()[SCENE][0], load_images=False).timestamp_us
    route = {"timestamp_us": start_us, "manoeuvre": "right"}
    commands = tmp_path / "route.json"
    commands.write_text(json.dumps({"format": "bevstack-manoeuvres-1", "manoeuvres": [route]}))
    with_commands = ["--rig", str(rig), "--frames", str(drive), "--manoeuvres", str(commands)]
    assert predict(weights, out, *with_commands) == 0
    assert read_traffic_frames(tmp_path / "drive_cues.json").meta["manoeuvre"] == "route.json"
    frames = read_traffic_frames(tmp_path / "drive_cues.json").frames
    assert len(frames) == SPEC.samples_per_scene
    assert frames[0].cameras == ("CAM_FRONT",)
    whole = tmp_path / "scene.json"
    assert predict(weights, whole, *in_scene(root)) == 0
    scene = read_traffic_frames(tmp_path / "scene_cues.json").frames
    for frame, wanted in zip(frames, scene, strict=True):
        np.testing.assert_array_equal(frame.elements.boxes_px, wanted.elements.boxes_px)
        assert [c.advice for c in frame.ego_cues] == [c.advice for c in wanted.ego_cues]
    images = tmp_path / "images"
    images.mkdir()
    frame = data.frame(data.scene_indices()[SCENE][0])
    for name, image in zip(frame.camera_names, frame.images, strict=True):
        cv2.imwrite(str(images / f"{name}.png"), image[..., ::-1])
    one_frame = ["--rig", str(rig), "--images", str(images), "--manoeuvre", "left"]
    assert predict(weights, tmp_path / "one.json", *one_frame) == 0
    assert read_traffic_frames(tmp_path / "one_cues.json").meta["manoeuvre"] == "left"
    (one,) = read_traffic_frames(tmp_path / "one_cues.json").frames
    assert len(one.ego_cues) == len(MANOEUVRES)
    show = ["show", "--results", str(tmp_path / "one.json"), "--rig", str(rig)]
    arguments = ["--images", str(images), "--manoeuvre", "left", "--out", str(tmp_path / "p")]
    assert main([*show, *arguments]) == 0
    assert (tmp_path / "p" / "one.jpg").is_file()


@pytest.mark.parametrize("boxes", [True, False])
def test_single_pictures_give_a_file_of_elements(root, tmp_path, boxes, capsys) -> None:
    weights = write_both(tmp_path / "some.safetensors", boxes=boxes)
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    frame = dataset(root, "synth_val").frame(0)
    for index, name in enumerate(("b.png", "more/a.jpg", "a.PNG")):
        cv2.imwrite(str(folder / name), frame.images[index][: 100 + 20 * index, :, ::-1])
    shutil.copy(weights, folder / "no_picture.txt")
    out = tmp_path / "elements.json"
    assert predict(weights, out, "--images", str(folder)) == 0
    images = read_picture_elements(out)
    assert [image.path for image in images] == ["a.PNG", "b.png", "more/a.jpg"]
    assert [image.size[0] for image in images] == [140, 100, 120]
    for image in images:
        assert image.scores is not None and list(image.scores) == sorted(image.scores)[::-1]
        assert all(0 <= score <= 1 for score in image.scores)
    count = sum(len(image.elements) for image in images)
    assert f"{count} lights and signs, 3 pictures: " in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "nowhere"], "--images must be a folder with pictures; got nowhere"),
        (
            ["--images", ".", "--track"],
            "--rig FILE must be given with --track; got single",
        ),
        (["--images", ".", "--cues", "c"], "--rig FILE must be given with --cues"),
        (["--images", ".", "--manoeuvre", "left"], "--rig FILE must be given with --manoeuvre"),
        (["--images", ".", "--manoeuvres", "m"], "--rig FILE must be given with --manoeuvres"),
        (["--manoeuvre", "left", "--no-cues"], "--manoeuvre and --no-cues must not be given"),
        (["--manoeuvres", "m", "--no-cues"], "--manoeuvres and --no-cues must not be given"),
        (["--cues", "c", "--no-cues"], "--cues and --no-cues must not be given together"),
        (["--traffic-rate", "sweeps"], "--nuscenes ROOT must be given with --traffic-rate sweeps"),
        (["--cues", "o.json"], "--cues must differ from --out; got o.json for both"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_sentence(
    weights, arguments, message, capsys, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert predict(weights, Path("o.json"), *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_weights_without_the_task_are_refused_where_lights_are_wanted(
    root, tmp_path, capsys
) -> None:
    weights = tmp_path / "boxes.safetensors"
    save_model(weights, build_model(CONFIG), CONFIG, {"step": "0"})
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((40, 60, 3), np.uint8))
    out = tmp_path / "o.json"
    for arguments in (
        ["--images", str(folder)],
        [*in_scene(root), "--cues", str(tmp_path / "c.json")],
        [*in_scene(root), "--traffic-rate", "sweeps"],
        [*in_scene(root), "--manoeuvre", "left"],
    ):
        assert predict(weights, out, *arguments) == 2
        error = capsys.readouterr().err
        assert "weights must have the task 'traffic'" in error and error.count("\n") == 1
    assert predict(weights, out, *in_scene(root)) == 0
    assert not (tmp_path / "o_cues.json").exists()


def test_a_damaged_picture_and_a_damaged_file_of_cues_are_named(
    root, weights, tmp_path, capsys
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    assert predict(weights, tmp_path / "o.json", "--images", str(folder)) == 2
    assert "folder must hold pictures" in capsys.readouterr().err
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    assert predict(weights, tmp_path / "o.json", "--images", str(folder)) == 2
    assert "broken.jpg" in capsys.readouterr().err
    assert not (tmp_path / "o.json").exists()
    cues = tmp_path / "cues.json"
    cues.write_text('{"format": "another"}')
    show = ["show", "--nuscenes", str(root), "--version", SPEC.version, "--cues", str(cues)]
    assert main([*show, "--out", str(tmp_path / "p")]) == 2
    assert "format of" in capsys.readouterr().err
