"""Moments of live inference: boxes, tracks, trust and pictures of each frame of a folder."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from bevstack.models.build import save_model
from bevstack.runtime.detector import Detector, build
from bevstack.runtime.frame_source import open_frames
from bevstack.runtime.tracked import TrackedDetector
from bevstack.types.health import CameraState
from bevstack.viewer.growing import GrowingDrive
from bevstack.viewer.inference import InferenceOptions, InferenceProcess, infer, infer_frames
from bevstack.viewer.moment import NO_IDENTITY, Moment
from bevstack.viewer.stream_moments import camera_notes
from tests.runtime.drives import export_scene, read_table, write_table, write_video
from tests.runtime.test_streaming import temporal
from tests.small_world import dataset, small_world
from tests.uncertainty.rigs import odd_sector_model
from tests.viewer.moments import moment


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = dataset(small_world(tmp_path_factory), "synth_val")
    return export_scene(data, data.scene_names[0], tmp_path_factory.mktemp("live") / "drive")


@pytest.fixture(scope="module")
def detector() -> Detector:
    model = build(temporal())
    return Detector(model.model, model.config, sector_model=odd_sector_model())


@pytest.fixture(scope="module")
def weights(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(path, detector.model, detector.config)
    return path


def options(folder: Path, **fields: object) -> InferenceOptions:
    base = InferenceOptions(rig=folder / "rig.json", images=folder, weights="small.safetensors")
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


def run(detector: object, chosen: InferenceOptions) -> list[Moment]:
    return list(infer_frames(detector, chosen.open_source(), chosen))  # type: ignore[arg-type]


def copied(drive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drive, tmp_path / "drive"))


def test_moments_hold_the_boxes_and_the_trust_of_a_stream(drive: Path, detector: Detector) -> None:
    found = run(detector, options(drive))
    stream = detector.stream()
    frames = list(open_frames(drive / "rig.json", drive).frames())
    assert len(found) == len(frames) == 3
    for index, (at, frame) in enumerate(zip(found, frames, strict=True)):
        detections = stream.step(frame)
        assert (at.scene, at.index, at.timestamp_us) == ("drive", index, frame.timestamp_us)
        predicted = at.predicted[0]
        assert (predicted.name, len(predicted.boxes)) == ("small", len(detections))
        # the detector gives boxes of a frame without a bev frame of its own in the ego frame
        center = detections.boxes.center.numpy()
        assert predicted.boxes.center_m == pytest.approx(center, abs=1e-6)
        assert predicted.boxes.size_m == pytest.approx(detections.boxes.size.numpy())
        assert predicted.score == pytest.approx(detections.scores.numpy())
        assert (predicted.boxes.identity == NO_IDENTITY).all() and not at.trails
        assert at.sectors is not None and stream.state.sectors is not None
        assert np.array_equal(at.sectors.trust, stream.state.sectors.trust)
        assert frame.world_from_ego is not None
        assert at.world_from_ego == pytest.approx(frame.world_from_ego.numpy())
    assert found[0].surroundings.trail is None
    trail = found[2].surroundings.trail
    assert trail is not None and trail.shape == (3, 3)
    assert trail[-1] == pytest.approx(np.zeros(3), abs=1e-9)


def test_without_a_calibration_of_sectors_no_trust_is_shown(
    drive: Path, detector: Detector
) -> None:
    plain = Detector(detector.model, detector.config)
    assert [at.sectors for at in run(plain, options(drive))] == [None] * 3


def test_pictures_keep_the_bytes_of_their_files(drive: Path, detector: Detector) -> None:
    files = {path.name: path.read_bytes() for path in drive.rglob("*.jpg")}
    frames = list(open_frames(drive / "rig.json", drive).frames())
    for at, frame in zip(run(detector, options(drive)), frames, strict=True):
        entry = json.loads((drive / "frames.json").read_text())["frames"][at.index]["cameras"]
        for camera, image in zip(at.cameras, frame.images, strict=True):
            assert camera.encoded == files[Path(entry[camera.name]["image"]).name]
            assert image is not None and camera.size_px == image.shape[1::-1]
        poses = frame.bev_from_cam().numpy()
        assert np.stack([c.ego_from_cam for c in at.cameras]) == pytest.approx(poses)


def test_tracks_have_identities_and_trails_in_the_present_frame(
    drive: Path, detector: Detector
) -> None:
    found = run(TrackedDetector(detector), options(drive, track=True))
    last, before = found[2], found[1]
    boxes, earlier = last.predicted[0].boxes, before.predicted[0].boxes
    assert (boxes.identity != NO_IDENTITY).all() and last.trails
    trail = next(t for t in last.trails if t.identity in earlier.identity)
    (row,) = np.flatnonzero(boxes.identity == trail.identity)
    assert trail.points_m[-1] == pytest.approx(boxes.center_m[row], abs=1e-6)
    (past,) = np.flatnonzero(earlier.identity == trail.identity)
    assert last.world_from_ego is not None and before.world_from_ego is not None
    moved = np.linalg.inv(last.world_from_ego) @ before.world_from_ego
    place = moved[:3, :3] @ earlier.center_m[past] + moved[:3, 3]
    assert trail.points_m[-2] == pytest.approx(place, abs=1e-6)
    step_s = (last.timestamp_us - before.timestamp_us) * 1e-6
    assert trail.times_s[-2:] == pytest.approx([-step_s, 0.0])


def test_a_missing_picture_is_a_tile_with_the_name_of_its_file(
    drive: Path, detector: Detector, tmp_path: Path
) -> None:
    folder = copied(drive, tmp_path)
    gone = Path(read_table(folder)["frames"][1]["cameras"]["CAM_BACK"]["image"])
    (folder / gone).unlink()
    found = run(detector, options(folder, lost=("CAM_FRONT_LEFT",)))
    views = {camera.name: camera for camera in found[1].cameras}
    assert views["CAM_BACK"].encoded is None and views["CAM_BACK"].missing == gone.name
    assert views["CAM_FRONT_LEFT"].missing == "camera is lost"
    assert views["CAM_FRONT"].encoded is not None
    assert "camera CAM_BACK is missing" in found[1].notes


def test_pictures_of_a_video_are_encoded(drive: Path, detector: Detector, tmp_path: Path) -> None:
    folder = copied(drive, tmp_path)
    frames = list(open_frames(folder / "rig.json", folder).frames())
    front = [frame.images[frame.camera_names.index("CAM_FRONT")] for frame in frames]
    pictures = [image[:224] for image in front if image is not None]  # videos have even sides
    rig = json.loads((folder / "rig.json").read_text())
    next(c for c in rig["cameras"] if c["name"] == "CAM_FRONT")["height"] = 224
    (folder / "rig.json").write_text(json.dumps(rig))
    write_video(folder / "front.avi", pictures, 2.0, codec="MJPG")
    entries = read_table(folder)["frames"]
    for entry in entries:
        del entry["cameras"]["CAM_FRONT"]
    start = entries[0]["timestamp_us"]
    write_table(
        folder,
        entries,
        videos={"CAM_FRONT": {"file": "front.avi", "start_us": start, "fps": 2.0}},
    )
    found = run(detector, options(folder))
    encoded = [next(c for c in at.cameras if c.name == "CAM_FRONT").encoded for at in found]
    assert all(data is not None and data.startswith(b"\xff\xd8") for data in encoded)
    assert len(set(encoded)) == 3


def test_a_process_fills_a_drive_and_can_be_stopped(drive: Path, weights: Path) -> None:
    growing = GrowingDrive()
    chosen = options(drive, weights=str(weights))
    process = InferenceProcess(chosen, growing, num_frames=3)
    try:
        assert growing.wait_for(2, 300), growing.failure
        growing.wait_for(3, 60)
        assert growing.has_ended and growing.progress == "all 3 frames"
        expected = list(infer(chosen))
        for index, at in enumerate(expected):
            own = growing.moment("drive", index)
            assert own.predicted[0].boxes.center_m == pytest.approx(
                at.predicted[0].boxes.center_m,
                abs=1e-4,  # another number of threads rounds float32 otherwise
            )
            assert [c.encoded for c in own.cameras] == [c.encoded for c in at.cameras]
    finally:
        process.stop()


def test_a_process_that_is_stopped_is_no_failure(
    drive: Path, weights: Path, recwarn: pytest.WarningsRecorder
) -> None:
    growing = GrowingDrive()
    process = InferenceProcess(options(drive, weights=str(weights)), growing)
    growing.wait_for(0, 300)
    process.stop()
    growing.wait_for(9, 30)
    assert growing.has_ended and growing.failure is None
    assert not [w for w in recwarn if "inference" in str(w.message)]


def test_errors_of_the_process_end_the_drive(drive: Path, tmp_path: Path) -> None:
    growing = GrowingDrive()
    process = InferenceProcess(options(drive, weights=str(tmp_path / "no.safetensors")), growing)
    try:
        assert not growing.wait_for(0, 300)
    finally:
        process.stop()
    assert isinstance(growing.failure, OSError) and "no.safetensors" in str(growing.failure)


def test_a_growing_drive_keeps_the_newest_moments() -> None:
    growing = GrowingDrive(kept=3)
    for index in range(5):
        growing.add(dataclasses.replace(moment(), index=index))
    assert (growing.count("scene"), growing.first()) == (5, 2)
    assert [growing.moment("scene", index).index for index in (2, 3, 4)] == [2, 3, 4]
    with pytest.raises(ValueError, match="frame must be from 2 to 4, which are kept; got 1"):
        growing.moment("scene", 1)
    growing.end(ValueError("picture must be whole; got half of it"))
    assert growing.progress == "stopped after 5 frames: picture must be whole; got half of it"
    assert not growing.wait_for(5)


def test_cameras_that_are_not_in_order_are_named() -> None:
    health = {"CAM_FRONT": CameraState.OK, "CAM_BACK": CameraState.OVER_EXPOSED}
    assert camera_notes(health) == ("camera CAM_BACK is over exposed",)


def test_a_drive_is_followed_until_it_ends() -> None:
    growing, ended = GrowingDrive(kept=2), threading.Event()
    for index in range(3):
        growing.add(dataclasses.replace(moment(), index=index))
    followed = growing.follow(ended)
    assert [next(followed).index, next(followed).index] == [1, 2]  # the first is dropped
    growing.add(dataclasses.replace(moment(), index=3))
    assert next(followed).index == 3
    growing.end()
    assert list(followed) == []
    ended.set()
    assert list(growing.follow(ended)) == []
