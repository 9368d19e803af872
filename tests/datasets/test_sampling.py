from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.sampling import (
    class_balanced_order,
    class_presence,
    earlier_draws,
    scene_owners,
    scene_sequential_order,
    shard_scenes,
    shuffled_order,
)
from tests.tables.tiny_root import VERSION


def _presence(counts: list[int], samples: int = 400) -> np.ndarray:
    """Return a mask with class k in counts[k] successive samples from a class offset, wrapped."""
    presence = np.zeros((samples, len(counts)), dtype=np.bool_)
    for label, count in enumerate(counts):
        presence[(np.arange(count) + 37 * label) % samples, label] = True
    return presence


def test_every_class_is_drawn_equally_often() -> None:
    counts = [390, 120, 31, 7]
    presence = _presence(counts)
    order = class_balanced_order(presence, seed=3, epoch=0)
    assert len(order) == 4 * round(sum(counts) / 4)
    # 137 draws of the rarest class over its 7 samples, which hardly any other class draws
    rare = np.isin(order, np.flatnonzero(presence[:, 3])).sum()
    assert rare >= round(sum(counts) / 4)
    drawn = Counter(order.tolist())
    only_common = np.flatnonzero(presence[:, 0] & ~presence[:, 1:].any(axis=1))
    mean_common = np.mean([drawn[int(k)] for k in only_common])
    mean_rare = np.mean([drawn[int(k)] for k in np.flatnonzero(presence[:, 3])])
    # expected: 137 / 390 draws of a sample for class 0, 137 / 7 for class 3, and more for samples
    # of several classes
    assert abs(mean_common - 137 / 390) < 0.1
    assert mean_rare > 137 / 7


def test_an_order_depends_on_seed_and_epoch_alone() -> None:
    presence = _presence([50, 20, 3])
    one = class_balanced_order(presence, seed=1, epoch=2)
    np.random.seed(0)  # noqa: NPY002  the global generator has no effect
    np.testing.assert_array_equal(class_balanced_order(presence, seed=1, epoch=2), one)
    assert (class_balanced_order(presence, seed=1, epoch=3) != one).any()
    assert (class_balanced_order(presence, seed=2, epoch=2) != one).any()


def test_samples_and_classes_without_boxes_are_never_drawn() -> None:
    presence = _presence([5, 0, 9], samples=40)
    order = class_balanced_order(presence, seed=0, epoch=0)
    assert len(order) == 14
    assert presence[order].any(axis=1).all()
    with pytest.raises(ValueError, match=r"must have a sample with a box .* among 40 samples"):
        class_balanced_order(np.zeros((40, 3), dtype=np.bool_), seed=0, epoch=0)


def test_presence_equals_the_classes_in_the_frames(root: Path) -> None:
    dataset = NuScenesDataset(root, VERSION).select([5, 0, 3, 2, 6])
    presence = class_presence(dataset)
    for index in range(len(dataset)):
        annotations = dataset.frame(index, load_images=False).annotations
        assert annotations is not None
        labels = annotations.labels[annotations.num_points > 0].tolist()
        assert sorted(set(labels)) == np.flatnonzero(presence[index]).tolist()
    assert presence.any() and not presence[:, dataset.class_names.index("bus")].any()


def test_shuffling_visits_every_sample_once_in_another_order_each_epoch() -> None:
    orders = [shuffled_order(50, seed=3, epoch=epoch).tolist() for epoch in (0, 1, 0)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))
    assert orders[0] == orders[2] != orders[1]
    assert shuffled_order(50, seed=4, epoch=0).tolist() != orders[0]


@pytest.mark.parametrize("length", [0, 1, 60])
def test_earlier_draws_are_counted(length: int) -> None:
    order = np.random.default_rng(length).integers(7, size=length)
    wanted = [order[:index].tolist().count(sample) for index, sample in enumerate(order)]
    assert earlier_draws(order).tolist() == wanted


@pytest.mark.parametrize("world_size", [1, 2, 3, 11])
def test_owners_and_shards_follow_the_same_rule(world_size: int) -> None:
    scenes = _scenes(LENGTHS)
    owners = scene_owners(LENGTHS, world_size)
    for rank in range(world_size):
        mine = [scene for scene, owner in zip(scenes, owners, strict=True) if owner == rank]
        assert shard_scenes(scenes, rank, world_size) == mine


LENGTHS = [5, 3, 8, 1, 3, 6, 4]


def _scenes(lengths: list[int]) -> list[list[int]]:
    ends = np.cumsum(lengths)
    return [list(range(end - n, end)) for end, n in zip(ends, lengths, strict=True)]


@pytest.mark.parametrize("streams", [1, 2, 3, 7, 11])
def test_streams_visit_whole_scenes_in_time_order_and_every_sample(streams: int) -> None:
    scenes = _scenes(LENGTHS)
    scene_of = {index: k for k, scene in enumerate(scenes) for index in scene}
    order = scene_sequential_order(scenes, streams, seed=4, epoch=1)
    assert order.shape[1] == streams
    assert set(order.ravel().tolist()) == set(range(sum(LENGTHS)))
    for stream in range(streams):
        samples = order[:, stream].tolist()
        for before, after in pairwise(samples):
            if scene_of[after] == scene_of[before] and after != scenes[scene_of[after]][0]:
                assert after == before + 1  # the next in time
            else:
                assert before == scenes[scene_of[before]][-1]  # a scene is left at its end
                assert after == scenes[scene_of[after]][0]
        assert samples[0] == scenes[scene_of[samples[0]]][0]
    if streams <= 3:  # 30 samples; no stream is longer than another by a whole scene
        assert len(order) < sum(LENGTHS) / streams + max(LENGTHS)


def test_streams_are_shuffled_by_seed_and_epoch() -> None:
    scenes = _scenes([4] * 12)
    one = scene_sequential_order(scenes, 2, seed=4, epoch=0)
    np.testing.assert_array_equal(scene_sequential_order(scenes, 2, seed=4, epoch=0), one)
    assert (scene_sequential_order(scenes, 2, seed=4, epoch=1) != one).any()
    assert (scene_sequential_order(scenes, 2, seed=5, epoch=0) != one).any()
    assert one.shape == (24, 2)  # nothing twice if the scenes can be shared evenly
    with pytest.raises(ValueError, match="got 0 scenes with samples and 2 streams"):
        scene_sequential_order([[], []], 2, seed=0, epoch=0)


@pytest.mark.parametrize("world_size", [1, 2, 3, 9])
def test_processes_share_whole_scenes_without_overlap(world_size: int) -> None:
    scenes = _scenes(LENGTHS)
    shares = [shard_scenes(scenes, rank, world_size) for rank in range(world_size)]
    assert sorted(scene for share in shares for scene in share) == scenes
    for share in shares:
        assert share == [scene for scene in scenes if scene in share]  # in their order
    sizes = [sum(map(len, share)) for share in shares]
    assert max(sizes) - min(sizes) <= max(LENGTHS)
    with pytest.raises(ValueError, match=f"below world_size {world_size}; got {world_size}"):
        shard_scenes(scenes, world_size, world_size)


def test_predictions_of_a_scene_do_not_depend_on_the_number_of_processes() -> None:
    def predict(
        scene: list[int],
    ) -> dict[int, float]:  # a memory: each sample depends on all before it
        sums = np.cumsum(np.array(scene) * 0.1)
        return dict(zip(scene, sums.tolist(), strict=True))

    scenes = _scenes(LENGTHS)
    results = []
    for world_size in (1, 2, 5):
        found: dict[int, float] = {}
        for rank in range(world_size):
            for scene in shard_scenes(scenes, rank, world_size):
                found |= predict(scene)
        results.append(found)
    assert results[0] == results[1] == results[2]
