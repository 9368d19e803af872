"""The task "segmentation": its files, its resumed training, and its score."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bevstack.config import InternImageConfig, TrainingConfig
from bevstack.config.mask_segmentation import MaskHeadConfig, MaskSegmentationConfig
from bevstack.config.published_segmentation import CITYSCAPES_CLASSES
from bevstack.config.segmentation import (
    LabelAugmentation,
    LabelHeadConfig,
    LabelledSizeConfig,
    SegmentationConfig,
)
from bevstack.config.segmenters import SegmenterConfig
from bevstack.datasets.segmentation.cityscapes import read_cityscapes
from bevstack.models.weights import read_safetensors, write_safetensors
from bevstack.runtime.loading import load_any
from bevstack.runtime.pixel_labeller import PixelLabeller
from bevstack.tasks.segmentation import Segmentation
from bevstack.training import train
from tests.datasets.segmentation.label_files import write_array, write_cityscapes

CONFIG = SegmentationConfig(
    name="small_labels",
    class_names=CITYSCAPES_CLASSES,
    num_outputs=20,
    pictures=LabelledSizeConfig(long_side=96, short_side=64),
    label_augmentation=LabelAugmentation(resize=(0.75, 1.25), crop_px=(64, 64)),
    backbone=InternImageConfig(
        channels=16, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8), drop_path_rate=0.1
    ),
    head=LabelHeadConfig(channels=16, auxiliary_channels=8),
    training=TrainingConfig(
        num_steps=4,
        batch_size=2,
        learning_rate=2e-3,
        backbone_multiplier=1.0,
        warmup_steps=1,
        schedule="linear",
        checkpoint_every=2,
        log_every=1,
        num_workers=0,
    ),
)
MASKS = MaskSegmentationConfig(
    name="small_masks",
    class_names=CITYSCAPES_CLASSES,
    pictures=CONFIG.pictures,
    label_augmentation=CONFIG.label_augmentation,
    backbone=CONFIG.backbone,
    head=MaskHeadConfig(
        channels=16,
        num_heads=2,
        num_points=2,
        num_queries=5,
        encoder_layers=1,
        decoder_layers=3,
        encoder_feedforward_channels=16,
        decoder_feedforward_channels=16,
        norm_groups=4,
        sampled_points=50,
    ),
    training=CONFIG.training,
)
BOTH = pytest.mark.parametrize("config", [CONFIG, MASKS], ids=lambda config: config.name)
ROAD, CAR, SKY = 7, 26, 23  # ids of Cityscapes


def write_streets(root: Path, *, split: str = "train", count: int = 3) -> Path:
    """Write pictures whose colours give the classes away: sky, road and a car in places."""
    ids = []
    for row in range(count):
        own = np.full((64, 96), SKY, np.uint8)
        own[32:] = ROAD
        left = 13 * (row % 6) + 8
        own[24:48, left : left + 30] = CAR
        ids.append(own)
    write_cityscapes(root, ids, split=split)
    for path in sorted((root / "leftImg8bit" / split).rglob("*.png")):
        name = path.name.replace("_leftImg8bit", "_gtFine_labelIds")
        labels = root / "gtFine" / split / path.parent.name / name
        own = cv2.imread(str(labels), cv2.IMREAD_UNCHANGED)
        colors = np.zeros((256, 3), np.uint8)
        colors[[SKY, ROAD, CAR]] = (90, 150, 230), (90, 90, 90), (200, 30, 30)
        write_array(path, colors[own])
    return root


class Alone:
    """A training of one process."""

    rank, world_size, device = 0, 1, torch.device("cpu")

    def barrier(self) -> None:
        """Wait for no process."""


@BOTH
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(
    config: SegmenterConfig, tmp_path: Path
) -> None:
    data = read_cityscapes(write_streets(tmp_path / "data"), "train")
    whole = train(Segmentation(config, data), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(Segmentation(config, data), tmp_path / "parts", report=_stop_after(3))
    parts = train(Segmentation(config, data), tmp_path / "parts", resume=True)
    first, second = read_safetensors(whole.weights)[0], read_safetensors(parts.weights)[0]
    assert first.keys() == second.keys()
    assert any("running_mean" in name for name in first) == (config is CONFIG)
    assert all(torch.equal(first[name], second[name]) for name in first)


def _stop_after(step: int):
    def report(done) -> None:
        if done.step >= step:
            raise KeyboardInterrupt

    return report


@BOTH
def test_training_moves_every_parameter_and_loads_as_a_labeller(
    config: SegmenterConfig, tmp_path: Path
) -> None:
    data = read_cityscapes(write_streets(tmp_path / "data"), "train")
    task = Segmentation(config, data, held_out=data)
    torch.manual_seed(config.training.seed)
    result = train(task, tmp_path / "run")
    labeller = load_any(result.weights)
    assert isinstance(labeller, PixelLabeller) and labeller.config == config
    weights = task.read_weights(result.weights)
    still = [
        name
        for name, value in task.build_model().state_dict().items()
        if value.dim() > 1 and torch.equal(value, weights[name])
    ]
    assert not still
    score = task.evaluate(weights, tmp_path, Alone())
    assert set(score.figures) == {"mean_iou", "mean_accuracy", "pixel_accuracy"}
    (labels,) = labeller.segment([data.picture(0)])
    assert labels.shape == (64, 96) and labels.max() < 20


@pytest.mark.slow
def test_a_small_model_learns_three_pictures(tmp_path: Path) -> None:
    """Overfit three pictures: 200 steps, 6 s of processor time."""
    recipe = replace(CONFIG.training, num_steps=200, warmup_steps=5, checkpoint_every=200)
    changes = replace(CONFIG.label_augmentation, photometric=False)
    data = read_cityscapes(write_streets(tmp_path / "data"), "train")
    config = replace(CONFIG, training=recipe, label_augmentation=changes)
    task = Segmentation(config, data, held_out=data)
    result = train(task, tmp_path / "run")
    score = task.evaluate(task.read_weights(result.weights), tmp_path, Alone())
    # Measured: 0.972. The most frequent label of each position has 0.801, and the labels of
    # another picture 0.660.
    assert score.figures["mean_iou"] > 0.9


def test_weights_of_another_task_give_the_backbone_alone(tmp_path: Path) -> None:
    task = Segmentation(CONFIG)
    torch.manual_seed(1)
    source = task.build_model().state_dict()
    backbone = {k: v for k, v in source.items() if k.startswith("backbone.")}
    write_safetensors(tmp_path / "b.safetensors", backbone, {"tasks": '["detection3d"]'})
    read = task.read_weights(tmp_path / "b.safetensors")
    assert read.keys() == source.keys()
    for name, value in source.items():
        if name in backbone:
            assert torch.equal(read[name], value)
    head = "head.classifier.logits.weight"
    assert head in source and not torch.equal(read[head], source[head])


def test_a_checkpoint_of_another_configuration_is_named(tmp_path: Path) -> None:
    task = Segmentation(CONFIG)
    other = replace(CONFIG, head=replace(CONFIG.head, channels=24))
    found = Segmentation(other).differences(task.to_json(), ())
    assert found == ["head.channels: 24 != 16"]
    kinds = "kind: MaskSegmentationConfig != SegmentationConfig"
    assert Segmentation(MASKS).differences(task.to_json(), ()) == [kinds]
    recipe = replace(CONFIG.training, num_workers=1)
    changed = Segmentation(replace(CONFIG, training=recipe))
    assert changed.differences(task.to_json(), ("num_workers",)) == []
