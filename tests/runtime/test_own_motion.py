"""The own motion of the relevance head: the same in training, in streams and from drives."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from bevstack.datasets.traffic_view.samples import FrontSamples, stack_samples
from bevstack.models.build_traffic import build_traffic_model
from bevstack.runtime.frame_cuer import CueSource
from bevstack.runtime.frame_source import open_frames
from bevstack.runtime.traffic_predictor import TrafficPredictor
from tests.runtime.drives import export_scene
from tests.runtime.traffic_weights import BOTH
from tests.small_world import dataset, small_world


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return dataset(small_world(tmp_path_factory))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_traffic_model(BOTH).eval()


def training_views(data):
    """Return the model input of each sample of the first scene, as training prepares it."""
    samples = FrontSamples(data, None, config=BOTH.traffic, images=BOTH.images)
    (rows, *_) = data.scene_indices().values()
    return [stack_samples([samples.prepare(row)]).views for row in rows]


def stream_views(model, frames):
    """Return the model input of each frame of a stream of cues."""
    seen = []
    hook = model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    cuer = CueSource(predictor=TrafficPredictor(model, BOTH)).new_cuer()
    for frame in frames:
        cuer.step(frame)
    hook.remove()
    return seen


def scene_frames(data):
    (rows, *_) = data.scene_indices().values()
    return [data.frame(row) for row in rows]


def assert_equal(found, wanted):
    assert len(found) == len(wanted) >= 3
    for got, want in zip(found, wanted, strict=True):
        for field in dataclasses.fields(want):
            assert torch.equal(getattr(got, field.name), getattr(want, field.name)), field.name


def test_key_frames_give_the_input_of_training(data, model):
    wanted = training_views(data)
    assert_equal(stream_views(model, scene_frames(data)), wanted)
    motion = torch.cat([views.ego_motion for views in wanted])
    assert motion[:, 2].tolist() == [0.0, *[1.0] * (len(motion) - 1)]
    frames = scene_frames(data)
    pairs = itertools.pairwise(frames)
    for (before, now), (speed, _, _) in zip(pairs, motion[1:].tolist(), strict=True):
        way = now.world_from_ego[:2, 3] - before.world_from_ego[:2, 3]
        elapsed_s = (now.timestamp_us - before.timestamp_us) * 1e-6
        assert speed == pytest.approx(float(way.norm()) / elapsed_s, rel=1e-5)


def test_images_between_the_key_frames_do_not_change_the_motion(data, model):
    keys = scene_frames(data)
    frames = []
    for before, now in itertools.pairwise(keys):
        frames.append(before)
        for step in range(1, 5):  # 10 Hz, all cameras but the front one lost as in sweeps
            share = step / 5
            pose = before.world_from_ego.clone()
            pose[:3, 3] = torch.lerp(before.world_from_ego[:3, 3], now.world_from_ego[:3, 3], share)
            gap_us = now.timestamp_us - before.timestamp_us
            time_us = before.timestamp_us + round(gap_us * share)
            frames.append(
                dataclasses.replace(
                    before,
                    timestamp_us=time_us,
                    camera_timestamp_us=(time_us,) * before.num_cameras,
                    world_from_ego=pose,
                    world_from_ego_at_camera=None,
                    sample_token="",
                )
            )
    frames.append(keys[-1])
    seen = stream_views(model, frames)
    assert_equal(seen[::5], training_views(data))
    # no motion until a pose is a quarter of a second old
    assert [float(views.ego_motion[0, 2]) for views in seen[:6]] == [0, 0, 0, 1, 1, 1]


def test_a_drive_with_poses_gives_the_motion_and_one_without_gives_none(data, model, tmp_path):
    (scene, *_) = data.scene_indices()
    folder = export_scene(data, scene, tmp_path / "drive")
    frames = list(open_frames(folder / "rig.json", folder).frames())
    found = torch.cat([views.ego_motion for views in stream_views(model, frames)])
    wanted = torch.cat([views.ego_motion for views in training_views(data)])
    # files of a drive hold poses and times of their own; they agree to single precision
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    blind = [
        dataclasses.replace(f, world_from_ego=None, world_from_ego_at_camera=None) for f in frames
    ]
    assert not torch.cat([views.ego_motion for views in stream_views(model, blind)]).any()
