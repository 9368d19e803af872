from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch

from bevstack.config import AugmentationConfig, Config, FPNConfig, ImageConfig, TrainingConfig
from bevstack.config.perspective import PerspectiveConfig
from bevstack.config.temporal import TemporalConfig
from bevstack.datasets.clips import load_clip
from bevstack.datasets.loader import collate, make_evaluation_loader, make_training_loader
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.types import Batch
from tests.tables.tiny_root import VERSION, read_table, token, write_tables, write_tiny_root
from tests.types.test_batch import tensors_of

CONFIG = Config(
    name="small",
    images=ImageConfig(size=(16, 40), keep_bottom=0.8, pad_to=8),
    augmentation=AugmentationConfig(
        resize=(0.8, 1.2), flip_images=True, rotate_deg=20.0, scale=(0.9, 1.1), flip_x=True
    ),
    training=TrainingConfig(batch_size=2, num_workers=0, seed=5),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> NuScenesDataset:
    return NuScenesDataset(write_tiny_root(tmp_path_factory.mktemp("tiny") / "root"), VERSION)


def _config(**training: object) -> Config:
    return dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, **training))


def _take(dataset: NuScenesDataset, config: Config, count: int, **options: int) -> list[Batch]:
    return list(islice(make_training_loader(dataset, config, **options), count))


def assert_same(first: Batch, second: Batch) -> None:
    assert first.sample_tokens == second.sample_tokens
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.rig.intrinsics, second.rig.intrinsics)
    assert torch.equal(first.bev_augmentation, second.bev_augmentation)
    for ours, theirs in zip(first.annotations, second.annotations, strict=True):
        assert torch.equal(ours.boxes.center, theirs.boxes.center)
        assert torch.equal(ours.boxes.yaw, theirs.boxes.yaw)


def test_every_epoch_visits_every_sample_once(dataset: NuScenesDataset) -> None:
    batches = _take(dataset, _config(batch_size=3), 7)
    seen = [token for batch in batches for token in batch.sample_tokens]
    everything = Counter(dataset.sample_token(index) for index in range(7))
    epochs = [seen[first : first + 7] for first in (0, 7, 14)]
    assert all(Counter(epoch) == everything for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("seen_before", [2, 6, 9])
def test_a_resumed_stream_continues_with_exactly_the_same_batches(
    dataset: NuScenesDataset, seen_before: int
) -> None:
    whole = _take(dataset, _config(batch_size=1), seen_before + 3)
    resumed = _take(dataset, _config(batch_size=1), 3, start=seen_before)
    for first, second in zip(whole[seen_before:], resumed, strict=True):
        assert_same(first, second)


def test_workers_change_nothing(dataset: NuScenesDataset) -> None:
    alone = _take(dataset, _config(num_workers=0), 5)
    for first, second in zip(alone, _take(dataset, _config(num_workers=2), 5), strict=True):
        assert_same(first, second)


def test_the_global_random_state_is_left_alone(dataset: NuScenesDataset) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    _take(dataset, _config(num_workers=1), 2)
    _take(dataset, _config(num_workers=0), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_is_another_stream(dataset: NuScenesDataset) -> None:
    first = [batch.sample_tokens for batch in _take(dataset, _config(seed=1), 4)]
    second = [batch.sample_tokens for batch in _take(dataset, _config(seed=2), 4)]
    assert first != second


def test_a_sample_gets_a_new_augmentation_each_epoch(dataset: NuScenesDataset) -> None:
    one = dataset.select([1])
    first, second = _take(one, _config(batch_size=1), 2)
    assert first.sample_tokens == second.sample_tokens
    assert not torch.equal(first.bev_augmentation, second.bev_augmentation)


def test_processes_share_each_batch(dataset: NuScenesDataset) -> None:
    whole = _take(dataset, _config(batch_size=4), 4)
    parts = [_take(dataset, _config(batch_size=4), 4, rank=rank, world_size=2) for rank in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert first.sample_tokens == batch.sample_tokens[0::2]
        assert second.sample_tokens == batch.sample_tokens[1::2]


def test_boxes_without_points_are_not_learned_unless_asked(dataset: NuScenesDataset) -> None:
    config = dataclasses.replace(_config(batch_size=1), augmentation=AugmentationConfig())
    for keep, smallest in ((False, 1), (True, 0)):
        stream = make_training_loader(dataset, config, keep_empty_boxes=keep)
        points = torch.cat([batch.annotations[0].num_points for batch in islice(stream, 7)])
        assert points.min().clamp(max=1) == smallest


def test_without_bev_augmentation_there_is_no_matrix(dataset: NuScenesDataset) -> None:
    config = dataclasses.replace(CONFIG, augmentation=AugmentationConfig(flip_images=True))
    assert _take(dataset, config, 1)[0].bev_augmentation is None


@pytest.mark.parametrize("start", [0, 3])
def test_the_perspective_stage_reads_current_frames_alone(
    dataset: NuScenesDataset, start: int
) -> None:
    clips = dataclasses.replace(
        _config(batch_size=3),
        frames=(-2, 0),
        temporal=TemporalConfig(),
        perspective=PerspectiveConfig(),
        fpn=FPNConfig(num_outputs=5),
    )
    recipe = dataclasses.replace(clips.training, perspective_steps=2)
    whole = _take(dataset, clips, 4)[start // 3 :]
    staged = _take(dataset, dataclasses.replace(clips, training=recipe), len(whole), start=start)
    assert [batch.images.shape[1] for batch in staged] == [1, 1, 2, 2][start // 3 :]
    for ours, clip in zip(staged, whole, strict=True):
        assert ours.sample_tokens == clip.sample_tokens
        assert torch.equal(ours.images[:, -1], clip.images[:, -1])  # and their augmentation
        assert torch.equal(ours.rig.intrinsics[:, -1], clip.rig.intrinsics[:, -1])
        assert torch.equal(ours.bev_augmentation, clip.bev_augmentation)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_camera_boxes_are_loaded_for_the_perspective_head_only(
    dataset: NuScenesDataset, num_workers: int
) -> None:
    config = _config(batch_size=4, num_workers=num_workers)
    perspective = dataclasses.replace(
        config, perspective=PerspectiveConfig(), fpn=FPNConfig(num_outputs=5)
    )
    for batch, plain in zip(_take(dataset, perspective, 3), _take(dataset, config, 3), strict=True):
        assert plain.camera_annotations is None
        assert_same(batch, plain)
        cameras = batch.images.shape[2]
        assert [len(sample) for sample in batch.camera_annotations] == [cameras] * 4
        assert sum(len(found) for sample in batch.camera_annotations for found in sample) > 0
    first = next(iter(make_evaluation_loader(dataset, perspective, num_workers=num_workers)))
    wanted = collate([load_clip(dataset, 0, camera_annotations=True)], CONFIG)
    for ours, theirs in zip(*(b.camera_annotations[0] for b in (first, wanted)), strict=True):
        assert torch.equal(ours.boxes_px, theirs.boxes_px)
    assert next(iter(make_evaluation_loader(dataset, CONFIG))).camera_annotations is None


def _distorting(**training: int) -> Config:
    augmentation = dataclasses.replace(CONFIG.augmentation, photometric=True, grid_mask=0.8)
    return dataclasses.replace(_config(**training), augmentation=augmentation)


def test_pixels_are_augmented_in_training_alone_and_nothing_else_changes(
    dataset: NuScenesDataset,
) -> None:
    for batch, plain in zip(
        _take(dataset, _distorting(), 3), _take(dataset, CONFIG, 3), strict=True
    ):
        assert not torch.equal(batch.images, plain.images)
        assert_same(dataclasses.replace(batch, images=plain.images), plain)
    for found, wanted in zip(
        make_evaluation_loader(dataset, _distorting()),
        make_evaluation_loader(dataset, CONFIG),
        strict=True,
    ):
        assert torch.equal(found.images, wanted.images)


def test_augmented_pixels_are_a_function_of_the_position(dataset: NuScenesDataset) -> None:
    whole = _take(dataset, _distorting(batch_size=1), 5)
    for first, second in zip(
        whole[2:], _take(dataset, _distorting(batch_size=1, num_workers=2), 3, start=2), strict=True
    ):
        assert_same(first, second)
    one = dataset.select([1])
    first, second = _take(one, _distorting(batch_size=1), 2)
    assert not torch.equal(first.images, second.images)


def test_clips_of_several_frames_are_trained_on_alike(dataset: NuScenesDataset) -> None:
    config = dataclasses.replace(
        _distorting(batch_size=3), frames=(-2, 0, 1), temporal=TemporalConfig()
    )
    first, second = _take(dataset, config, 2)
    plain = _take(dataset, _distorting(batch_size=3), 2)
    for batch, single in zip((first, second), plain, strict=True):
        assert batch.sample_tokens == single.sample_tokens
        height, width = single.images.shape[-2:]
        # other frames change neither the current frame nor its augmentation
        assert torch.equal(batch.images[:, 1:2, ..., :height, :width], single.images)
        assert torch.equal(batch.bev_augmentation, single.bev_augmentation)
        assert torch.equal(batch.annotations[0].boxes.center, single.annotations[0].boxes.center)
        mirrored = batch.rig.intrinsics[..., 0, 0] < 0
        known = batch.rig.camera_mask
        for row in range(3):
            assert len(mirrored[row][known[row]].unique()) == 1
    tokens = (*first.sample_tokens, *second.sample_tokens)
    valid = torch.cat((first.frame_valid, second.frame_valid))
    for sample, row in zip(tokens, valid.tolist(), strict=True):
        index = dataset.index_of(sample)
        wanted = [dataset.neighbour(index, offset, False) is not None for offset in (-2, 0, 1)]
        assert row == wanted


def test_samples_without_boxes_are_trained_on(tmp_path: Path) -> None:
    root = write_tiny_root(tmp_path / "root")
    rows = [
        {**row, "prev": "", "next": ""}
        for row in read_table(root, "sample_annotation")
        if row["sample_token"] == token("sample", "scene-0916", 0)
    ]
    write_tables(root, {"sample_annotation": rows})
    config = dataclasses.replace(
        _config(batch_size=7), perspective=PerspectiveConfig(), fpn=FPNConfig(num_outputs=5)
    )
    (batch,) = _take(NuScenesDataset(root, VERSION), config, 1)
    counts = dict(zip(batch.sample_tokens, map(len, batch.annotations), strict=True))
    assert len(counts) == 7
    assert {t for t, n in counts.items() if n} == {token("sample", "scene-0916", 0)}
    for sample, cameras in zip(batch.sample_tokens, batch.camera_annotations, strict=True):
        if sample != token("sample", "scene-0916", 0):
            assert sum(map(len, cameras)) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: nothing to pin memory for")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_pinned_batches_are_the_same(dataset: NuScenesDataset, num_workers: int) -> None:
    config = _config(num_workers=num_workers)
    stream = make_training_loader(dataset, config, pin_memory=True)
    for batch, plain in zip(islice(stream, 2), _take(dataset, config, 2), strict=True):
        assert batch.images.is_pinned()
        assert_same(batch, plain)


@pytest.mark.parametrize("batch_size", [2, 9])
def test_a_batch_takes_few_file_descriptors_whatever_its_size(
    dataset: NuScenesDataset, batch_size: int
) -> None:
    """Count storages: each one from a worker keeps a descriptor open; a process has 1024."""
    config = dataclasses.replace(
        _config(batch_size=batch_size, num_workers=1),
        perspective=PerspectiveConfig(),
        fpn=FPNConfig(num_outputs=5),
    )
    (batch,) = _take(dataset, config, 1)
    tensors = tensors_of(batch)
    assert len(tensors) > 40 * batch_size
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) < 30


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_reads_every_sample_once_in_order_and_unchanged(
    dataset: NuScenesDataset, num_workers: int
) -> None:
    stream = make_evaluation_loader(dataset, CONFIG, batch_size=3, num_workers=num_workers)
    batches = list(stream)
    assert [batch.batch_size for batch in batches] == [3, 3, 1]
    tokens = [token for batch in batches for token in batch.sample_tokens]
    assert tokens == [dataset.sample_token(index) for index in range(7)]
    wanted = collate([load_clip(dataset, index) for index in range(3)], CONFIG)
    assert torch.equal(batches[0].images, wanted.images)
    assert batches[0].bev_augmentation is None
    assert batches[0].annotations[1].num_points.min() == 0  # scoring decides, not the loader
    assert [batch.batch_size for batch in stream] == [3, 3, 1]  # and again


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_worker_arrives_in_one_sentence(tmp_path: Path, num_workers: int) -> None:
    root = write_tiny_root(tmp_path / "root")
    (root / "samples/CAM_BACK/scene-0103_1.jpg").unlink()
    dataset = NuScenesDataset(root, VERSION, scenes=["scene-0103"])
    stream = iter(make_training_loader(dataset, _config(num_workers=num_workers)))
    with pytest.raises(FileNotFoundError) as caught:
        list(islice(stream, 4))
    assert str(caught.value).startswith("image must exist; got no file")
    assert "(sample " in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_what_cannot_be_streamed_is_refused(dataset: NuScenesDataset) -> None:
    with pytest.raises(ValueError, match="dataset must hold at least one sample"):
        make_training_loader(dataset.select([]), CONFIG)
    with pytest.raises(
        ValueError, match="a multiple of the 3 processes; got start 0 and batch_size 2"
    ):
        make_training_loader(dataset, CONFIG, world_size=3)
    with pytest.raises(ValueError, match="start must be >= 0"):
        make_training_loader(dataset, CONFIG, start=-1)
    with pytest.raises(ValueError, match="clips must hold at least one"):
        collate([], CONFIG)


def test_cameras_are_lost_in_all_frames_with_their_boxes_and_the_rest_is_unchanged(
    dataset: NuScenesDataset,
) -> None:
    def config(probability: float) -> Config:
        augmentation = dataclasses.replace(CONFIG.augmentation, camera_dropout=probability)
        return dataclasses.replace(
            _config(batch_size=1),
            frames=(-1, 0),
            fpn=FPNConfig(num_outputs=5),
            temporal=TemporalConfig(),
            perspective=PerspectiveConfig(),
            augmentation=augmentation,
        )

    counts = Counter()
    batches = [_take(dataset, config(p), 21) for p in (0.0, 0.7)]
    for whole, some in zip(*batches, strict=True):
        assert some.sample_tokens == whole.sample_tokens
        working_before, working = (
            batch.rig.camera_mask[0] & batch.frame_valid[0, :, None] for batch in (whole, some)
        )
        lost = (working_before & ~working).any(0).nonzero().flatten().tolist()
        counts[len(lost)] += 1
        for camera in range(working.shape[1]):
            ours, theirs = some.images[0, :, camera], whole.images[0, :, camera]
            if camera in lost:
                assert not working[:, camera].any() and not ours.any()
                assert not len(some.camera_annotations[0][camera])
            else:
                assert torch.equal(working[:, camera], working_before[:, camera])
                assert torch.equal(ours, theirs[..., : ours.shape[-2], : ours.shape[-1]])
        assert torch.equal(some.annotations[0].boxes.center, whole.annotations[0].boxes.center)
    # 14.7 of 21 are expected to lose one; three standard deviations are 6
    assert set(counts) == {0, 1} and 8 < counts[1] < 21
