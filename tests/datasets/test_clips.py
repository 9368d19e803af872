from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bevstack.datasets.clips import load_clip
from bevstack.datasets.nuscenes import NuScenesDataset
from tests.tables.tiny_root import VERSION, token


def test_frames_are_at_their_offsets_within_the_scene(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    clip = load_clip(dataset, 2, (-3, -1, 0, 1))
    tokens = [None if frame is None else frame.sample_token for frame in clip.frames]
    assert tokens == [None, *(token("sample", "scene-0103", k) for k in (1, 2, 3))]
    assert clip.offsets == (-3, -1, 0, 1)
    assert clip.current.sample_token == dataset.sample_token(2)


def test_a_scene_does_not_reach_into_the_next(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    clip = load_clip(dataset, 4, (-1, 0, 1, 3), load_images=False)
    assert clip.frames[0] is None
    assert clip.frames[2].sample_token == token("sample", "scene-0916", 1)
    assert clip.frames[3] is None


def test_only_the_current_frame_has_annotations(root: Path) -> None:
    clip = load_clip(NuScenesDataset(root, VERSION), 1, (-1, 0), load_images=False)
    assert clip.frames[0].annotations is None
    assert len(clip.current.annotations) == 3


def test_long_intervals_and_future_frames_are_ordinary_offsets(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION)
    clip = load_clip(dataset, 1, (-6, -3, 0, 2), load_images=False)
    assert [frame is None for frame in clip.frames] == [True, True, False, False]
    times = [frame.timestamp_us for frame in clip.frames[2:]]
    assert times[1] - times[0] == 1_000_000
    poses = [frame.world_from_ego for frame in clip.frames[2:]]
    assert not torch.equal(*poses)
    assert torch.equal(poses[1], dataset.frame(3, load_images=False).world_from_ego)


def test_a_clip_of_a_selection_includes_samples_that_it_leaves_out(root: Path) -> None:
    whole = NuScenesDataset(root, VERSION)
    clip = load_clip(whole.select([5, 2]), 1, (-1, 0, 1), load_images=False)
    assert [frame.sample_token for frame in clip.frames] == [
        whole.sample_token(index) for index in (1, 2, 3)
    ]


def test_offsets_must_hold_the_current_frame(root: Path) -> None:
    with pytest.raises(ValueError, match="offsets must ascend and hold 0"):
        load_clip(NuScenesDataset(root, VERSION), 1, (-2, -1), load_images=False)
