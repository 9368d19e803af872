"""The study of cues: a replay of recorded detections gives the cues of the first run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from bevstack.config.cues import CueConfig
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.traffic.root_truth import read_root_truth
from bevstack.evaluation.traffic.traffic_frames import read_traffic_frames
from bevstack.runtime import recorded_drives
from bevstack.runtime.predict import predict_dataset
from bevstack.runtime.predict_cues import CueOptions
from bevstack.runtime.recorded_drives import RecordedElements, scene_frames
from bevstack.synthetic import make_world
from bevstack.types.traffic import EgoLane
from tests.runtime.test_predict_cues import SPEC, detector
from tests.small_world import build_once
from tools import study_cues as program


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return the data set and the file of its cues."""
    root = build_once(
        tmp_path_factory, "sweeps_world", lambda folder: make_world(folder / "world", SPEC)
    )
    dataset = NuScenesDataset(root / "world", SPEC.version, split="synth_test")
    folder = tmp_path_factory.mktemp("study")
    cues = folder / "cues.json"
    predict_dataset(detector(), dataset, folder / "r.json", cues=CueOptions(cues, sweeps=True))
    return dataset, cues


def test_a_replay_of_all_frames_gives_the_recorded_cues(recorded):
    dataset, cues = recorded
    first = read_traffic_frames(cues).frames
    scenes = list(scene_frames(dataset))
    predictor = RecordedElements(first)
    again = program.Variant(CueConfig()).replay(scenes, predictor, seed=0)
    assert [frame.cues for frame in again] == [frame.cues for frame in first]
    assert [frame.ego_cues for frame in again] == [frame.ego_cues for frame in first]
    assert [frame.sample_token for frame in again] == [frame.sample_token for frame in first]


def test_recorded_drives_hold_frames_detections_and_truth(recorded, monkeypatch):
    dataset, cues = recorded
    token = dataset.sample_token(0)
    truth = read_root_truth(dataset.tables, "synth_test")
    truth = replace(truth, ego_lanes={token: EgoLane(token, "a", "left")})
    monkeypatch.setattr(recorded_drives, "read_root_truth", lambda tables, split: truth)
    source = (cues, dataset.root, SPEC.version, "synth_test")
    drives = recorded_drives.read_recorded_drives(*source)
    plain = recorded_drives.read_recorded_drives(*source, with_commands=False)
    found = read_traffic_frames(cues)
    frames = [frame for scene in drives.scenes for frame in scene]
    assert drives.meta == found.meta and drives.truth is truth
    assert [frame.timestamp_us for frame in frames] == [f.timestamp_us for f in found.frames]
    first = drives.predictor.predict(frames[0])
    np.testing.assert_array_equal(first.boxes_px, found.frames[0].elements.boxes_px)
    assert {frame.manoeuvre for frame in drives.scenes[0]} == {"left"}
    assert {frame.manoeuvre for scene in plain.scenes for frame in scene} == {""}


def test_a_dropped_frame_holds_the_report_before_it(recorded):
    dataset, cues = recorded
    scenes = list(scene_frames(dataset))
    predictor = RecordedElements(read_traffic_frames(cues).frames)
    frames = program.Variant(CueConfig(), dropped=0.5).replay(scenes, predictor, seed=1)
    times = [frame.timestamp_us for scene in scenes for frame in scene]
    assert [frame.timestamp_us for frame in frames] == times
    held = [row for row, frame in enumerate(frames) if not len(frame.elements)]
    assert 0.2 < len(held) / len(frames) < 0.8
    for row in held:
        assert frames[row].cues == frames[row - 1].cues
    assert len(frames[0].elements)  # a scene starts with a frame
    starts = np.cumsum([0, *(len(scene) for scene in scenes[:-1])])
    assert not set(held) & set(starts.tolist())


def test_a_commanded_manoeuvre_holds_until_the_next_sample(recorded):
    dataset, _ = recorded
    tokens = [dataset.sample_token(index) for index in range(2)]
    lanes = {
        tokens[0]: EgoLane(tokens[0], "a", "left"),
        tokens[1]: EgoLane(tokens[1], "b", "right"),
    }
    scenes = list(scene_frames(dataset, lanes))
    wanted = ""
    for frame in scenes[0]:
        wanted = {tokens[0]: "left", tokens[1]: "right"}.get(frame.sample_token, wanted)
        assert frame.manoeuvre == wanted
    assert {frame.manoeuvre for frame in scenes[0]} == {"left", "right"}
    assert {frame.manoeuvre for frame in scenes[1]} == {""}  # no lane is known


def test_the_table_has_a_row_for_each_piece_of_evidence(recorded, tmp_path, monkeypatch, capsys):
    dataset, cues = recorded
    out = tmp_path / "study.json"
    options = ["--cues", cues, "--nuscenes", dataset.root, "--version", SPEC.version]
    options += ["--split", "synth_test", "--json", out]
    monkeypatch.setattr(sys, "argv", ["study_cues.py", *map(str, options)])
    program.main()
    rows = json.loads(out.read_text())
    assert len(program.EVIDENCE) == 8
    assert {f"without {name.removeprefix('use_')}" for name in program.EVIDENCE} < set(rows)
    assert capsys.readouterr().out.count("\n") == 1 + len(rows)
