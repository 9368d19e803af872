"""Prediction over a data set: the same file after a kill and for any number of processes."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bevstack.config import ImageConfig, TemporalConfig
from bevstack.datasets.clips import load_clip
from bevstack.datasets.images import read_image
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.results.result_boxes import results_of_frame
from bevstack.models.build import save_model
from bevstack.runtime.detector import build
from bevstack.runtime.loading import load
from bevstack.runtime.predict import predict_dataset
from bevstack.types import Clip, Frame
from tests.conftest import shared_dir
from tests.small_world import CONFIG, SPEC, dataset, small_world
from tests.tables.tiny_root import VERSION, write_tiny_root

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


@pytest.fixture(scope="module")
def detector():
    return build(CONFIG)


@pytest.fixture(scope="module")
def weights(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(path, detector.model, CONFIG)
    return path


@pytest.fixture(scope="module")
def whole(root, detector, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "results.json"
    assert predict_dataset(detector, dataset(root, "synth_val"), out) == []
    return out.read_bytes()


def test_every_sample_has_boxes_in_the_order_of_the_tables(root, whole):
    results = json.loads(whole)["results"]
    data = dataset(root, "synth_val")
    assert list(results) == [data.sample_token(index) for index in range(len(data))]
    assert all(len(boxes) > 0 for boxes in results.values())


class Killed(Exception):
    """Interruption of a run between two scenes."""


def test_a_killed_run_resumes_and_writes_the_same_file(root, detector, tmp_path, whole):
    out = tmp_path / "results.json"
    data = dataset(root, "synth_val")

    def kill(done, total):
        raise Killed

    with pytest.raises(Killed):
        predict_dataset(detector, data, out, progress=kill)
    assert not out.exists()
    part = tmp_path / "results.json.parts" / f"{data.scene_names[0]}.json"
    stamp = part.stat().st_mtime_ns
    done = []
    predict_dataset(detector, data, out, progress=lambda n, total: done.append(n))
    assert out.read_bytes() == whole
    assert done == [3, 6]
    assert not part.exists()
    assert stamp  # the part existed; the next test checks that a part of another model is refused


def test_finished_scenes_of_another_model_are_refused(root, detector, tmp_path):
    out = tmp_path / "results.json"
    data = dataset(root, "synth_val")

    def kill(done, total):
        raise Killed

    with pytest.raises(Killed):
        predict_dataset(detector, data, out, progress=kill)
    other = build(CONFIG)
    with torch.no_grad():
        next(other.model.parameters()).add_(1.0)
    with pytest.raises(ValueError, match="must hold scenes of the same model"):
        predict_dataset(other, data, out)


def test_two_processes_write_the_same_file(root, weights, tmp_path, whole):
    out = tmp_path / "results.json"
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "tools/predict.py"),
            *("--weights", str(weights), "--nuscenes", str(root), "--version", SPEC.version),
            *("--split", "synth_val", "--out", str(out)),
        ],
        cwd=REPOSITORY,
        check=True,
        timeout=300,
    )
    assert out.read_bytes() == whole


def test_missing_images_are_named_and_skipped_only_when_asked(root, detector, tmp_path):
    data = dataset(root, "synth_val")
    image = root / "samples" / "CAM_BACK"
    victim = sorted(image.glob("*.jpg"))[-1]
    hidden = victim.with_suffix(".hidden")
    victim.rename(hidden)
    try:
        (token,) = data.missing_images()
        with pytest.raises(
            FileNotFoundError, match=f"1 samples with missing images: {token}.*skip-missing"
        ):
            predict_dataset(detector, data, tmp_path / "r.json")
        skipped = predict_dataset(detector, data, tmp_path / "r.json", skip_missing=True)
    finally:
        hidden.rename(victim)
    assert skipped == [token]
    assert token not in json.loads((tmp_path / "r.json").read_text())["results"]


def test_weights_alone_are_enough(root, weights, detector):
    frame = dataset(root, "synth_val").frame(0)
    found, want = load(weights).predict(frame), detector.predict(frame)
    assert torch.equal(found.boxes.center, want.boxes.center)
    assert torch.equal(found.scores, want.scores)


def only(frame, cameras):
    """Return a frame of some of the cameras, without sample token, pose or time."""
    index = torch.tensor(cameras)
    return Frame(
        images=[frame.images[n] for n in cameras],
        intrinsics=frame.intrinsics[index],
        ego_from_cam=frame.ego_from_cam[index],
    )


@pytest.mark.parametrize("cameras", [[0], [3, 1], [0, 1, 2, 3, 4, 5]])
def test_any_number_of_cameras_without_tables_or_pose(root, detector, cameras):
    found = detector.predict(only(dataset(root, "synth_val").frame(0), cameras))
    assert len(found) > 0
    assert torch.isfinite(found.boxes.center).all()
    assert torch.isfinite(found.scores).all()


def test_a_lost_camera_gives_the_result_of_a_rig_without_it(root, detector):
    frame = only(dataset(root, "synth_val").frame(0), [0, 1, 2])
    lost = Frame(
        images=[frame.images[0], None, frame.images[2]],
        intrinsics=frame.intrinsics,
        ego_from_cam=frame.ego_from_cam,
    )
    found, want = detector.predict(lost), detector.predict(only(frame, [0, 2]))
    # the same numbers summed in another order
    torch.testing.assert_close(found.scores, want.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.boxes.center, want.boxes.center, atol=1e-3, rtol=0)


def test_all_cameras_lost_is_refused(root, detector):
    frame = only(dataset(root, "synth_val").frame(0), [0])
    blind = Frame(images=[None], intrinsics=frame.intrinsics, ego_from_cam=frame.ego_from_cam)
    with pytest.raises(ValueError, match=r"frames\[0\] must have a working camera"):
        detector.predict(blind)


def test_a_batch_of_two_rigs_equals_two_batches_of_one(root, detector):
    data = dataset(root, "synth_val")
    frames = [data.frame(0), only(data.frame(5), [2, 4, 0])]
    both = detector.predict_batch(frames)
    for found, frame in zip(both, frames, strict=True):
        alone = detector.predict(frame)
        torch.testing.assert_close(found.scores, alone.scores, atol=1e-5, rtol=0)


def temporal(frames):
    section = TemporalConfig(num_fusion=1, inter_channels=32, norm="BN")
    return build(replace(CONFIG, name="small_temporal", frames=frames, temporal=section))


def scores_in(path):
    """Return the scores of each sample, best first."""
    results = json.loads(path.read_text())["results"]
    return {token: [box["detection_score"] for box in boxes] for token, boxes in results.items()}


def scores_of_clip(detector, clip):
    """Return the scores in a submission of a clip's current frame."""
    boxes = results_of_frame(detector.predict_clip(clip), clip.current, detector.class_names)
    return [box["detection_score"] for box in boxes]


@pytest.mark.parametrize("frames", [(-2, -1, 0), (-1, 0, 1)])
def test_each_sample_is_predicted_with_its_past_and_future_frames(root, tmp_path, frames):
    detector, data = temporal(frames), dataset(root, "synth_val")
    predict_dataset(detector, data, tmp_path / "r.json")
    found = scores_in(tmp_path / "r.json")
    for index in range(len(data)):
        wanted = scores_of_clip(detector, load_clip(data, index, frames))
        # float32 summed in batches of another size
        assert found[data.sample_token(index)] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("frames", [(-2, -1, 0), (-1, 0, 1)])
def test_a_skipped_sample_leaves_a_gap(root, tmp_path, frames):
    detector, data = temporal(frames), dataset(root, "synth_val")
    whole, gap = tmp_path / "whole.json", tmp_path / "gap.json"
    predict_dataset(detector, data, whole)
    (victim,) = (root / "samples" / "CAM_BACK").glob(f"*{data.frame(1).camera_timestamp_us[3]}*")
    hidden = victim.with_suffix(".hidden")
    victim.rename(hidden)
    try:
        with pytest.raises(FileNotFoundError):
            predict_dataset(detector, data, gap)
        assert predict_dataset(detector, data, gap, skip_missing=True) == [data.sample_token(1)]
    finally:
        hidden.rename(victim)
    full, found = scores_in(whole), scores_in(gap)
    clip = load_clip(data, 2, frames)
    missing = Clip(
        (*clip.frames[: frames.index(-1)], None, *clip.frames[frames.index(0) :]), frames
    )
    wanted = scores_of_clip(detector, missing)
    assert found[data.sample_token(2)] == pytest.approx(wanted, abs=1e-5)
    assert found[data.sample_token(2)] != full[data.sample_token(2)]
    for index in (3, 4, 5):  # another scene
        assert found[data.sample_token(index)] == full[data.sample_token(index)]


def test_a_killed_run_of_a_temporal_model_resumes_and_writes_the_same_file(root, tmp_path):
    detector, data = temporal((-2, -1, 0)), dataset(root, "synth_val")
    predict_dataset(detector, data, tmp_path / "whole.json")

    def kill(done, total):
        raise Killed

    with pytest.raises(Killed):
        predict_dataset(detector, data, tmp_path / "again.json", progress=kill)
    predict_dataset(detector, data, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


@pytest.mark.parametrize("frames", [(0,), (-1, 0), (-1, 0, 1)])
def test_images_are_decoded_as_small_as_in_training(tmp_path, monkeypatch, frames):
    """Decode files of 80x48 and 100x50 pixels for input of 20x8 at a quarter and at half."""
    images = ImageConfig(size=(8, 20), keep_bottom=1.0)
    section = TemporalConfig(num_fusion=1, inter_channels=32, norm="BN") if frames[1:] else None
    detector = build(replace(CONFIG, images=images, frames=frames, temporal=section))
    data = NuScenesDataset(write_tiny_root(tmp_path / "root"), VERSION)
    sizes = Counter()

    def read(path, size, *, reduction):
        image = read_image(path, size, reduction=reduction)
        sizes[image.shape[:2]] += 1
        return image

    monkeypatch.setattr("bevstack.datasets.camera_images.read_image", read)
    predict_dataset(detector, data, tmp_path / "r.json")
    # four samples of six cameras, and three of four of which two are 100x50
    assert set(sizes) == {(12, 20), (25, 50)}
    if frames[-1] == 0:  # a stream reads each image once
        assert sizes == {(12, 20): 4 * 6 + 3 * 2, (25, 50): 3 * 2}
    found = scores_in(tmp_path / "r.json")
    wanted = scores_of_clip(detector, load_clip(data, 2, frames, images_for=detector.config))
    # float32 summed in batches of another size
    assert found[data.sample_token(2)] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.oracle("data_predict_scene0103")
def test_four_real_frames_become_a_submission_that_the_devkit_loads(tmp_path, weights):
    from nuscenes.eval.common.loaders import load_prediction
    from nuscenes.eval.detection.data_classes import DetectionBox

    real = shared_dir() / "data" / "nuscenes_minival"
    out = tmp_path / "results.json"
    command = [
        *(sys.executable, "tools/predict.py", "--weights", str(weights)),
        *("--nuscenes", str(real), "--version", "v1.0-mini", "--scene", "scene-0103"),
        *("--out", str(out)),
    ]
    refused = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert refused.returncode == 2
    assert "36 samples with missing images" in refused.stderr
    done = subprocess.run(
        [*command, "--skip-missing"], cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("skipped") == 36
    boxes, meta = load_prediction(str(out), 500, DetectionBox)
    assert len(boxes.sample_tokens) == 4
    assert meta["use_camera"]
