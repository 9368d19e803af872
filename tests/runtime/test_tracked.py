"""Streams that track: they equal ``update_tracks`` on a detector's stream; when tracks end."""

import json
from dataclasses import replace

import pytest
import torch

from bevstack.cli.main import main
from bevstack.config.tracking import TrackingConfig
from bevstack.geometry import invert_se3
from bevstack.models.build import save_model
from bevstack.runtime.detector import build
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.tracked import TrackedDetector
from bevstack.tracking import update_tracks
from bevstack.types import Detections, Reset
from tests.runtime.test_streaming import temporal
from tests.small_world import CONFIG, SPEC, dataset

WIDE = TrackingConfig(reach_m=6.0, speed_sigma_mps=5.0)  # random weights: boxes jump about


def assert_same(found, wanted, tolerance=1e-5):
    assert torch.equal(found.labels, wanted.labels) and len(found) > 0
    torch.testing.assert_close(found.scores.double(), wanted.scores.double())
    for field in ("center", "size", "velocity"):
        ours, theirs = getattr(found.boxes, field), getattr(wanted.boxes, field)
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=tolerance)
    turned = found.boxes.yaw.double() - wanted.boxes.yaw.double()
    assert torch.sin(turned / 2).abs().max() <= tolerance


def tracks_by_hand(stream, frames, config):
    """Track one scene; tracks are in the world frame."""
    scene = None
    for frame in frames:
        found = stream.step(frame)
        boxes = Detections(found.boxes.to(torch.float64), found.scores, found.labels)
        scene = update_tracks(
            scene,
            boxes.transformed(frame.world_from_bev()),
            ego_position=frame.world_from_ego[:2, 3],
            timestamp_us=frame.timestamp_us,
            config=config,
        )
    return scene.tracks


@pytest.mark.parametrize("wrap", [lambda detector: detector, MirroredDetector])
def test_a_stream_returns_the_tracks_of_its_boxes(detector, frames, wrap):
    wrapped = wrap(detector)
    stream = TrackedDetector(wrapped, WIDE).stream()
    assert len(stream.tracks) == 0 and stream.uses_history
    resets, first = [], None
    for index, frame in enumerate(frames):
        found = stream.step(frame)
        scene = frames[index - index % 3 : index + 1]
        wanted = tracks_by_hand(wrapped.stream(), scene, WIDE)
        kept = wanted[: detector.config.decoder.max_detections]
        # float32 boxes a few hundred metres from the world's origin, and back
        assert_same(found, kept.detections().transformed(invert_se3(frame.world_from_bev())))
        assert torch.equal(stream.tracks.identity, wanted.identity)
        resets.append(stream.reset)
        current = stream.tracks.identity[stream.tracks.last_seen_us == frame.timestamp_us]
        assert bool((current < len(first)).any()) if index % 3 else len(current) == len(found)
        first = first if index % 3 else found
    assert resets == [Reset.START, Reset.NONE, Reset.NONE, Reset.SCENE, Reset.NONE, Reset.NONE]


def test_detectors_print_on_one_line_and_their_boxes_carry_class_names(detector, frames):
    text = repr(detector)
    assert text.startswith(f"Detector({detector.config.name}: 10 classes, ")
    assert text.endswith(" parameters, cpu)") and "\n" not in text and len(text) < 100
    wrapped = TrackedDetector(MirroredDetector(detector))
    assert repr(wrapped) == f"TrackedDetector(MirroredDetector({text}))"
    assert wrapped.classes == detector.classes == detector.config.class_names
    for boxes in (detector.predict(frames[0]), wrapped.stream().step(frames[0])):
        assert boxes.class_names == detector.classes


def test_a_model_without_history_is_tracked_too_and_a_new_scene_restarts_its_tracks(frames):
    detector = build(CONFIG)
    stream = TrackedDetector(detector, WIDE).stream()
    for frame in frames[:3]:
        stream.step(frame)
    assert_same(
        stream.tracks.detections(), tracks_by_hand(detector.stream(), frames[:3], WIDE).detections()
    )
    for first in (frames[3], frames[1], frames[0]):  # other scenes, and time that goes back
        stream.step(first)
        alone = tracks_by_hand(detector.stream(), [first], WIDE)
        assert_same(stream.tracks.detections(), alone.detections())


def test_a_pose_that_jumps_ends_the_tracks(detector, frames):
    stream = TrackedDetector(detector, WIDE).stream()
    stream.step(frames[0])
    far = frames[1].world_from_ego.clone()
    far[0, 3] += 500
    stream.step(replace(frames[1], world_from_ego=far, world_from_ego_at_camera=None))
    assert stream.reset is Reset.JUMP
    assert bool((stream.tracks.last_seen_us == frames[1].timestamp_us).all())


def test_calls_without_a_stream_equal_those_of_the_detector(detector, frames):
    tracked = TrackedDetector(detector)
    for found, wanted in zip(
        tracked.predict_batch(frames[2:4]), detector.predict_batch(frames[2:4]), strict=True
    ):
        assert_same(found, wanted, 0.0)
    mirrored = MirroredDetector(detector)
    assert_same(TrackedDetector(mirrored).predict(frames[0]), mirrored.predict(frames[0]), 0.0)


def test_a_frame_without_a_pose_is_refused_and_leaves_the_stream_unchanged(frames):
    detector = build(CONFIG)
    stream, other = (TrackedDetector(detector, WIDE).stream() for _ in range(2))
    for each in (stream, other):
        each.step(frames[0])
    lost = replace(
        frames[1], world_from_ego=None, world_from_ego_at_camera=None, sample_token="unplaced"
    )
    with pytest.raises(ValueError, match=r"world_from_ego must be given.*tracked.*'unplaced'"):
        stream.step(lost)
    assert_same(stream.step(frames[1]), other.step(frames[1]), 0.0)


def test_a_model_that_uses_future_frames_is_refused():
    with pytest.raises(ValueError, match="frames must not look ahead"):
        TrackedDetector(build(temporal((-1, 0, 1))))


def test_unfinished_results_of_other_tracking_settings_are_refused(root, tmp_path):
    detector, data, out = build(CONFIG), dataset(root, "synth_val"), tmp_path / "results.json"

    def kill(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_dataset(TrackedDetector(detector), data, out, progress=kill)
    for other in (
        detector,
        TrackedDetector(detector, WIDE),
        TrackedDetector(MirroredDetector(detector)),
    ):
        with pytest.raises(ValueError, match="must hold scenes of the same model"):
            predict_dataset(other, data, out)
    predict_dataset(TrackedDetector(detector), data, out)
    assert len(json.loads(out.read_text())["results"]) == len(data)


@pytest.mark.parametrize("mirror", [False, True])
def test_the_command_line_writes_tracks(detector, root, tmp_path, mirror):
    weights, out = tmp_path / "small.safetensors", tmp_path / "results.json"
    save_model(weights, detector.model, detector.config)
    where = ["--nuscenes", str(root), "--version", SPEC.version, "--split", "synth_val"]
    more = ["--track", *(["--mirror"] if mirror else [])]
    assert main(["predict", "--weights", str(weights), *where, "--out", str(out), *more]) == 0
    wrapped = MirroredDetector(detector) if mirror else detector
    wanted = tmp_path / "wanted.json"
    predict_dataset(TrackedDetector(wrapped), dataset(root, "synth_val"), wanted)
    assert out.read_bytes() == wanted.read_bytes()


def test_a_single_picture_is_not_tracked(capsys, tmp_path):
    command = ["predict", "--config", "tiny_cpu", "--rig", "rig.json", "--images", ".", "--track"]
    assert main([*command, "--out", str(tmp_path / "boxes.json")]) != 0
    assert "--nuscenes or --frames must be given with --track" in capsys.readouterr().err
