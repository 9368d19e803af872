"""Drives with a user's own cameras are predicted as the same frames are in Python."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from bevstack.cli.main import main
from bevstack.models.build import save_model
from bevstack.runtime.detector import Detector, build
from bevstack.runtime.frame_detections_file import FrameDetections, read_frame_detections
from bevstack.runtime.frame_source import open_frames
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.predict_frames import predict_frames
from bevstack.runtime.scene_stream import stream_scene
from bevstack.runtime.stream_protocol import FrameDetector
from bevstack.runtime.tracked import TrackedDetector
from bevstack.types import Detections
from tests.runtime.drives import export_scene, read_table, write_table
from tests.runtime.test_streaming import temporal
from tests.small_world import CONFIG, dataset


@pytest.fixture(scope="module")
def drive(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = dataset(root, "synth_val")
    return export_scene(data, data.scene_names[0], tmp_path_factory.mktemp("drives") / "drive")


def copied(drive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drive, tmp_path / "drive"))


def read(path: Path) -> list[FrameDetections]:
    return list(read_frame_detections(path)[0])


def assert_equal(got: Detections, wanted: Detections, tolerance: float = 0.0) -> None:
    assert len(got) == len(wanted) > 0
    for name in ("center", "size", "yaw", "velocity"):
        boxes = getattr(got.boxes, name), getattr(wanted.boxes, name)
        torch.testing.assert_close(*boxes, rtol=tolerance, atol=tolerance, equal_nan=True)
    torch.testing.assert_close(got.scores, wanted.scores, rtol=tolerance, atol=tolerance)


def test_a_scene_as_a_drive_gives_the_boxes_of_the_data_set(
    detector: Detector, root: Path, drive: Path, tmp_path: Path
) -> None:
    data = dataset(root, "synth_val")
    summary = predict_frames(detector, open_frames(drive / "rig.json", drive), tmp_path / "o.json")
    results = read(tmp_path / "o.json")
    steps = list(stream_scene(detector, data, data.scene_names[0]))
    assert summary.num_frames == len(results) == len(steps) == 3 and not summary.lost
    for result, step in zip(results, steps, strict=True):
        assert result.timestamp_us == step.frame.timestamp_us
        assert torch.equal(result.world_from_ego, step.frame.world_from_ego)
        # Without a bev frame of its own, boxes pass an identity in float32.
        assert_equal(result.detections, step.detections, 1e-6)


def test_poses_between_frames_are_close_to_those_of_the_data_set(
    root: Path, drive: Path, tmp_path: Path
) -> None:
    folder = copied(drive, tmp_path)
    table = read_table(folder)
    for frame in table["frames"]:
        for camera in frame["cameras"].values():
            del camera["world_from_ego"]
    write_table(folder, table["frames"])
    data = dataset(root, "synth_val")
    for index, got in enumerate(open_frames(folder / "rig.json", folder).frames()):
        frame = data.frame(index, load_images=False)
        assert got.camera_timestamp_us == frame.camera_timestamp_us
        wanted, poses = frame.world_from_ego_at_camera, got.world_from_ego_at_camera
        moved = (wanted[:, :3, 3] - frame.world_from_ego[:3, 3]).norm(dim=-1).max()
        missed = (wanted[:, :3, 3] - poses[:, :3, 3]).norm(dim=-1).max()
        assert moved > 0.1 and missed < 0.1 * moved  # vehicles brake and turn between key frames


@pytest.mark.parametrize("options", [[], ["--track"], ["--track", "--mirror"]])
def test_the_command_gives_the_stream_in_python_bit_for_bit(
    detector: Detector, drive: Path, tmp_path: Path, options: list[str]
) -> None:
    save_model(tmp_path / "w.safetensors", detector.model, detector.config)
    out = tmp_path / "drive.json"
    command = ["predict", "--weights", tmp_path / "w.safetensors", "--rig", drive / "rig.json"]
    command += ["--frames", drive, "--out", out, *options]
    assert main([str(word) for word in command]) == 0
    wrapped: FrameDetector = MirroredDetector(detector) if "--mirror" in options else detector
    wrapped = TrackedDetector(wrapped) if "--track" in options else wrapped
    stream = wrapped.stream()
    results = read(out)
    for frame, result in zip(open_frames(drive / "rig.json", drive).frames(), results, strict=True):
        boxes = stream.step(frame)
        assert_equal(result.detections, boxes)
        assert (result.detections.labels == boxes.labels).all()
        if "--track" in options:
            assert torch.equal(result.identities, stream.tracks.identity[: len(boxes)])
        else:
            assert result.identities is None
    if "--track" in options:
        first, last = (set(result.identities.tolist()) for result in (results[0], results[-1]))
        assert first & last  # objects keep their tracks


def test_frames_without_poses_need_no_history(
    detector: Detector, drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(drive, tmp_path)
    frames = read_table(folder)["frames"]
    (folder / "frames.json").unlink()
    source = open_frames(folder / "rig.json", folder)
    assert not source.has_poses
    out = tmp_path / "o.json"
    with pytest.raises(ValueError, match=r"world_from_ego must be given .* --no-history"):
        predict_frames(detector, source, out)
    assert not out.exists()
    predict_frames(detector, source, out, history=False)
    results, read_again = read(out), list(source.frames())
    assert len(results) == len(frames)
    for frame, result in zip(read_again, results, strict=True):
        assert frame.world_from_ego is None and result.world_from_ego is None
        assert_equal(result.detections, detector.predict(frame))
    single = build(dataclasses.replace(CONFIG, name="single"))
    predict_frames(single, source, out)  # a model without past frames needs no pose
    command = ["predict", "--config", "tiny_cpu", "--rig", folder / "rig.json", "--frames", folder]
    command = [str(word) for word in [*command, "--out", tmp_path / "x.json"]]
    assert main([*command, "--track"]) == 2
    assert "world_from_ego must be given for every frame with --track" in capsys.readouterr().err


def test_a_model_of_future_frames_predicts_a_drive_without_history(
    drive: Path, tmp_path: Path
) -> None:
    looking_ahead = build(temporal(frames=(-1, 0, 1)))
    source = open_frames(drive / "rig.json", drive)
    with pytest.raises(ValueError, match=r"must not look ahead in a drive; got \(-1, 0, 1\)"):
        predict_frames(looking_ahead, source, tmp_path / "o.json")
    predict_frames(looking_ahead, source, tmp_path / "o.json", history=False)
    first = next(source.frames())
    assert_equal(read(tmp_path / "o.json")[0].detections, looking_ahead.predict(first))


def test_a_camera_without_a_picture_is_lost_in_its_frame(
    detector: Detector, drive: Path, tmp_path: Path
) -> None:
    folder = copied(drive, tmp_path)
    table = read_table(folder)
    table["frames"][1]["cameras"]["CAM_BACK"] = None
    del table["frames"][2]["cameras"]["CAM_FRONT_LEFT"]
    write_table(folder, table["frames"])
    out = tmp_path / "o.json"
    summary = predict_frames(detector, open_frames(folder / "rig.json", folder), out)
    assert summary.lost == {"CAM_BACK": 1, "CAM_FRONT_LEFT": 1}
    assert [r.lost_cameras for r in read(out)] == [(), ("CAM_BACK",), ("CAM_FRONT_LEFT",)]
    always = open_frames(folder / "rig.json", folder, lost=["CAM_FRONT"])
    assert predict_frames(detector, always, out).lost["CAM_FRONT"] == 3


def test_a_missing_picture_is_named_or_lost(
    detector: Detector, drive: Path, tmp_path: Path
) -> None:
    folder = copied(drive, tmp_path)
    name = read_table(folder)["frames"][1]["cameras"]["CAM_BACK"]["image"]
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"got 1 missing, first .*{name} of camera CAM_B"):
        open_frames(folder / "rig.json", folder)
    source = open_frames(folder / "rig.json", folder, skip_missing=True)
    assert predict_frames(detector, source, tmp_path / "o.json").lost == {"CAM_BACK": 1}


def test_a_damaged_picture_leaves_no_results(
    detector: Detector, drive: Path, tmp_path: Path
) -> None:
    folder = copied(drive, tmp_path)
    name = read_table(folder)["frames"][2]["cameras"]["CAM_BACK"]["image"]
    (folder / name).write_bytes((folder / name).read_bytes()[:-500])
    out = tmp_path / "out" / "o.json"
    with pytest.raises(ValueError, match=rf"whole file; got .*{name}"):
        predict_frames(detector, open_frames(folder / "rig.json", folder), out)
    assert not list(out.parent.iterdir())  # neither results nor a temporary file


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "x"], "--rig FILE must be given with --frames"),
        (["--rig", "r", "--frames", "x", "--images", "y"], "or --frames DIR for a drive; got both"),
        (["--rig", "r", "--images", "y", "--interval", "1"], "--frames DIR must be given with --i"),
        (["--rig", "r", "--images", "y", "--no-history"], "--frames DIR must be given with --no"),
        (["--rig", "r", "--frames", "y", "--no-history", "--track"], "must not be given together"),
    ],
)
def test_options_that_do_not_fit(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["predict", "--config", "tiny_cpu", "--out", str(tmp_path / "o.json"), *options]
    if "--rig" not in options:
        command += ["--nuscenes", "n", "--version", "v", "--scene", "s"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_boxes_of_a_drive_are_drawn(
    detector: Detector, drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.json"
    source = open_frames(drive / "rig.json", drive)
    predict_frames(TrackedDetector(detector), source, out, interval_s=1.0)
    times = [result.timestamp_us for result in read(out)]
    assert len(times) == 2
    command = ["show", "--results", out, "--rig", drive / "rig.json", "--frames", drive]
    command = [str(word) for word in [*command, "--out", tmp_path / "pictures"]]
    assert main([*command, "--max-frames", "1"]) == 0 and main(command) == 0
    shown = capsys.readouterr().out.split()
    assert [Path(p).name for p in shown[1:]] == [f"o_{time}.jpg" for time in times]
    assert all(Path(p).is_file() for p in shown)
    content = json.loads(out.read_text())
    content["frames"][1]["timestamp_us"] += 1
    out.write_text(json.dumps(content))
    assert main(command) == 2
    assert "give the frames that were predicted" in capsys.readouterr().err
