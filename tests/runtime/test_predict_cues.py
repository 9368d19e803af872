"""Cues beside the boxes of data sets, rigs and drives: one file, resumable, at the sweeps' rate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.sweeps import front_sweeps
from bevstack.evaluation.traffic.traffic_frames import read_traffic_frames
from bevstack.runtime.finished_scenes import Shard
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.predict_cues import CueOptions, cues_path
from bevstack.runtime.scene_stream import stream_scene
from bevstack.runtime.with_cues import CueDetector
from bevstack.synthetic import WorldSpec, make_world
from bevstack.types import Frame
from bevstack.types.traffic_detections import TrafficDetections
from bevstack.vocabulary import MANOEUVRES
from tests.runtime.traffic_scenes import BoxDetector, KnowingPredictor, seen_light
from tests.small_world import build_once

SPEC = WorldSpec(
    train_scenes=0,
    val_scenes=0,
    test_scenes=2,
    samples_per_scene=2,
    image_size=(90, 160),
    front_sweeps=True,
)


class AheadPredictor(KnowingPredictor):
    """A predictor that sees a red light 30 m ahead in every frame of any rig."""

    def predict(self, frame: Frame, previous: Frame | None = None) -> TrafficDetections:
        self.frames.append(frame.timestamp_us)
        front = frame.camera_names.index("CAM_FRONT")
        if frame.images[front] is None:
            return TrafficDetections.empty()
        return seen_light(frame, self.color)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> NuScenesDataset:
    root = build_once(
        tmp_path_factory, "sweeps_world", lambda folder: make_world(folder / "world", SPEC)
    )
    return NuScenesDataset(root / "world", SPEC.version, split="synth_test")


def detector(color: str = "red") -> CueDetector:
    return CueDetector(BoxDetector(), AheadPredictor(color))


def test_cues_of_every_sample_stand_beside_the_boxes(dataset, tmp_path) -> None:
    out = tmp_path / "results.json"
    assert cues_path(out) == tmp_path / "results_cues.json"
    predict_dataset(detector(), dataset, out, cues=CueOptions(cues_path(out)))
    boxes = json.loads(out.read_text())["results"]
    found = read_traffic_frames(cues_path(out))
    assert [frame.sample_token for frame in found.frames] == list(boxes)
    assert found.meta == {"model": "small", "images": "key frames"}
    for index, frame in enumerate(found.frames):
        key = dataset.frame(index, load_images=False)
        assert frame.timestamp_us == key.timestamp_us and frame.cameras == ("CAM_FRONT",)
        np.testing.assert_array_equal(frame.world_from_ego, key.world_from_ego)
        assert [cue.manoeuvre for cue in frame.ego_cues] == list(MANOEUVRES)
        assert len(frame.elements) == 1
    plain = tmp_path / "plain.json"
    predict_dataset(BoxDetector(), dataset, plain)
    assert plain.read_bytes() == out.read_bytes()  # boxes of no model do not depend on cues
    assert not (tmp_path / "results.json.parts").exists()


def test_sweeps_give_cues_at_twelve_hertz_and_boxes_at_key_frames(dataset, tmp_path) -> None:
    out, cues = tmp_path / "results.json", tmp_path / "cues.json"
    predict_dataset(detector(), dataset, out, cues=CueOptions(cues, sweeps=True))
    frames = read_traffic_frames(cues).frames
    assert len(json.loads(out.read_text())["results"]) == len(dataset) == 4
    assert sum(bool(frame.sample_token) for frame in frames) == 4
    # between two key frames 0.5 s apart there are five images: 12 Hz
    assert len(frames) == 4 + 2 * 5
    for scene in {frame.scene_token for frame in frames}:
        times_us = [frame.timestamp_us for frame in frames if frame.scene_token == scene]
        assert times_us == sorted(times_us)
        # key frames have the lidar's time, which differs a little from that of their front image
        assert np.diff(times_us).max() < 1.5e5


def test_frames_of_sweeps_hold_the_front_image_with_its_own_time_and_pose(dataset) -> None:
    indices = dataset.scene_indices()[dataset.scene_names[0]]
    sweeps = front_sweeps(dataset, indices)
    frames = list(sweeps.between(0, 1 << 62))
    assert len(frames) == len(sweeps) == 5
    tables = dataset.tables
    for frame, row in zip(frames, sweeps.rows, strict=True):
        pairs = zip(frame.camera_names, frame.images, strict=True)
        given = [name for name, image in pairs if image is not None]
        assert given == ["CAM_FRONT"] and frame.num_cameras == 6
        assert frame.timestamp_us == tables.sweeps.timestamp_us[row]
        np.testing.assert_array_equal(frame.world_from_ego[:3, 3], tables.sweeps.translation[row])
        assert frame.sample_token == "" and frame.annotations is None
    first, last = frames[0].timestamp_us, frames[-1].timestamp_us
    assert len(list(sweeps.between(first + 1, last))) == 3


def test_worlds_without_sweeps_are_refused_in_one_sentence(tmp_path_factory, tmp_path) -> None:
    from tests.small_world import dataset as small_dataset
    from tests.small_world import small_world

    samples = small_dataset(small_world(tmp_path_factory), "synth_val")
    with pytest.raises(ValueError, match="CAM_FRONT must have images between the key frames"):
        predict_dataset(
            detector(),
            samples,
            tmp_path / "r.json",
            cues=CueOptions(tmp_path / "c.json", sweeps=True),
        )


def test_a_killed_run_continues_and_gives_the_same_cues(dataset, tmp_path) -> None:
    whole, cues = tmp_path / "whole.json", tmp_path / "whole_cues.json"
    predict_dataset(detector(), dataset, whole, cues=CueOptions(cues))
    out = tmp_path / "results.json"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    options = CueOptions(cues_path(out))
    with pytest.raises(KeyboardInterrupt):
        predict_dataset(detector(), dataset, out, cues=options, progress=stop)
    assert not out.exists() and not cues_path(out).exists()
    resumed = detector()
    predict_dataset(resumed, dataset, out, cues=options)
    assert len(resumed.cue_source.predictor.frames) == 2  # of the second scene alone
    assert cues_path(out).read_bytes() == cues.read_bytes()
    assert out.read_bytes() == whole.read_bytes()


def test_parts_of_other_cues_are_refused(dataset, tmp_path) -> None:
    out = tmp_path / "results.json"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    options = CueOptions(cues_path(out))
    with pytest.raises(KeyboardInterrupt):
        predict_dataset(detector(), dataset, out, cues=options, progress=stop)
    for other, cues in ((detector("green"), options), (detector(), None)):
        with pytest.raises(ValueError, match="must hold scenes of the same model and data set"):
            predict_dataset(other, dataset, out, cues=cues)


def test_cues_of_weights_without_the_task_are_refused(dataset, tmp_path) -> None:
    with pytest.raises(ValueError, match="weights must have the task 'traffic' to give cues"):
        predict_dataset(
            BoxDetector(), dataset, tmp_path / "r.json", cues=CueOptions(tmp_path / "c.json")
        )
    assert list(tmp_path.iterdir()) == []


def test_streamed_scenes_have_cues_in_the_state_of_each_step(dataset) -> None:
    steps = list(stream_scene(detector(), dataset, dataset.scene_names[1]))
    assert all(len(step.state.ego_cues) == len(MANOEUVRES) for step in steps)
    assert [step.state.reset for step in steps] == [step.reset for step in steps]


def test_processes_share_the_scenes_of_the_cues(dataset, tmp_path) -> None:
    class Waiting(Shard):
        """A process that is not first, whose partner has finished its part."""

        def barrier(self) -> None:
            return None

    out, options = tmp_path / "r.json", CueOptions(tmp_path / "c.json")
    parts = tmp_path / "r.json.parts"
    first = detector()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # process 0 of 2 finishes its scene
        predict_dataset(first, dataset, out, cues=options, shard=Waiting(0, 2), progress=stop)
    predict_dataset(detector(), dataset, out, cues=options, shard=Waiting(1, 2))
    assert len(list((parts / "cues").iterdir())) == 2
    predict_dataset(first, dataset, out, cues=options)
    assert len(read_traffic_frames(options.out).frames) == 4


def test_a_result_file_in_a_folder_keeps_its_own_cues(tmp_path: Path) -> None:
    names = {cues_path(tmp_path / name).name for name in ("results.json", "tracked.json")}
    assert names == {"results_cues.json", "tracked_cues.json"}
