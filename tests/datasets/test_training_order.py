"""Class-balanced epochs, which are a function of the position like the shuffled ones."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from bevstack.config import Config
from bevstack.datasets.loader import make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.sampling import class_balanced_order, class_presence
from bevstack.types import Batch
from tests.datasets.test_loader import CONFIG, assert_same
from tests.tables.tiny_root import VERSION, write_tables, write_tiny_root


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> NuScenesDataset:
    return NuScenesDataset(write_tiny_root(tmp_path_factory.mktemp("tiny") / "root"), VERSION)


def _config(**training: object) -> Config:
    return dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, **training))


def _take(dataset: NuScenesDataset, config: Config, count: int, **options: int) -> list[Batch]:
    return list(islice(make_training_loader(dataset, config, **options), count))


def _balanced(**training: object) -> Config:
    return _config(sampling="class_balanced", **training)


def test_class_balanced_epochs_are_those_of_the_order(dataset: NuScenesDataset) -> None:
    presence = class_presence(dataset)
    orders = [class_balanced_order(presence, seed=5, epoch=epoch) for epoch in range(3)]
    length = len(orders[0])
    assert length != len(dataset)
    stream = make_training_loader(dataset, _balanced(batch_size=1))
    assert stream.epoch_length == length
    assert make_training_loader(dataset, CONFIG).epoch_length == len(dataset)
    seen = [batch.sample_tokens[0] for batch in islice(stream, 3 * length)]
    assert seen == [dataset.sample_token(int(index)) for order in orders for index in order]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("seen_before", [3, 8, 13])
def test_a_resumed_class_balanced_stream_continues_with_exactly_the_same_batches(
    dataset: NuScenesDataset, seen_before: int, num_workers: int
) -> None:
    whole = _take(dataset, _balanced(batch_size=1), seen_before + 3)
    config = _balanced(batch_size=1, num_workers=num_workers)
    resumed = _take(dataset, config, 3, start=seen_before)
    for first, second in zip(whole[seen_before:], resumed, strict=True):
        assert_same(first, second)


def test_a_sample_that_an_epoch_draws_again_gets_a_new_augmentation(
    dataset: NuScenesDataset,
) -> None:
    stream = make_training_loader(dataset, _balanced(batch_size=1))
    batches = list(islice(stream, stream.epoch_length))
    drawn = Counter(batch.sample_tokens[0] for batch in batches)
    sample, times = drawn.most_common(1)[0]
    assert times > 1
    matrices = {
        tuple(batch.bev_augmentation.flatten().tolist())
        for batch in batches
        if batch.sample_tokens[0] == sample
    }
    assert len(matrices) == times
    # the first draw of a sample is augmented as in a shuffled epoch
    plain = {b.sample_tokens[0]: b for b in _take(dataset, _config(batch_size=1), len(dataset))}
    first = next(batch for batch in batches if batch.sample_tokens[0] == sample)
    assert_same(first, plain[sample])


def test_class_balanced_processes_share_each_batch(dataset: NuScenesDataset) -> None:
    config = _balanced(batch_size=4)
    whole = _take(dataset, config, 4)
    parts = [_take(dataset, config, 4, rank=rank, world_size=2) for rank in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert first.sample_tokens == batch.sample_tokens[0::2]
        assert second.sample_tokens == batch.sample_tokens[1::2]


def test_class_balanced_sampling_without_any_box_is_refused(tmp_path: Path) -> None:
    root = write_tiny_root(tmp_path / "root")
    write_tables(root, {"sample_annotation": [], "instance": []})
    with pytest.raises(ValueError, match="must have a sample with a box of a known class"):
        make_training_loader(NuScenesDataset(root, VERSION), _balanced())
