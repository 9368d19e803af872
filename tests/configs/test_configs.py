"""Packaged configurations: released and published recipes, and files loaded by path."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bevstack.config import (
    Config,
    InternImageConfig,
    ResNetConfig,
    load_config,
    packaged_configs,
)
from bevstack.config.internimage import INTERNIMAGE_VARIANTS
from bevstack.models.build import build_model
from bevstack.models.layers.norms import ChannelsLastGroupNorm

FOLDER = Path(__file__).resolve().parent.parent.parent / "configs"
SIZES = ("t", "s", "b", "l", "xl")
RELEASED = ("bevformerv2_r50_t1_base", *(f"bevformerv2_r50_t{t}" for t in (1, 2, 8)))
PAPER = tuple(f"bevformerv2_internimage_{size}_t{t}" for size in SIZES for t in (1, 8))
BIDIRECTIONAL = "bevformerv2_internimage_xl_bidirectional"
TRAFFIC = ("tiny_cpu_t4_traffic", "traffic_lights_real", "bevformerv2_internimage_xl_t8_traffic")
TINY = ("tiny_cpu", "tiny_cpu_t4", "tiny_cpu_t4_brief")
NUSCENES_TRAINING_SAMPLES = 28_130


def test_the_package_holds_all_documented_configurations() -> None:
    expected = {*RELEASED, *PAPER, BIDIRECTIONAL, *TINY, *TRAFFIC}
    assert set(packaged_configs()) == expected


@pytest.mark.parametrize("name", packaged_configs())
def test_a_configuration_is_the_same_by_path_and_by_name(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert load_config(FOLDER / f"{name}.py") == config


@pytest.mark.parametrize("name", packaged_configs())
def test_files_state_differences_only(name: str) -> None:
    lines = (FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60  # most need half of that; base configurations need more


def test_a_file_elsewhere_may_start_from_a_packaged_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import replace\n"
        "from bevstack.configs.bevformerv2_r50_t2 import CONFIG as T2\n"
        "CONFIG = replace(T2, name='mine', frames=(-4, 0))\n",
        encoding="utf-8",
    )
    t2 = load_config("bevformerv2_r50_t2")
    assert load_config(path) == replace(t2, name="mine", frames=(-4, 0))


# Values of the released files.
@pytest.mark.parametrize("name", RELEASED)
def test_released_recipe_is_as_released(name: str) -> None:
    config = load_config(name)
    images, recipe, encoder, decoder = (
        config.images,
        config.training,
        config.encoder,
        config.decoder,
    )
    assert isinstance(config.backbone, ResNetConfig) and config.backbone.depth == 50
    assert config.backbone.norm == "SyncBN" and config.backbone.out_indices == (1, 2, 3)
    assert (images.size, images.channel_order, images.pad_to) == ((640, 1600), "bgr", 32)
    assert (images.mean, images.std) == ((103.53, 116.28, 123.675), (1, 1, 1))
    assert images.keep_bottom * 900 == 640
    grid = config.grid
    assert (grid.frame, grid.shape, grid.z_range_m) == ("lidar", (200, 200), (-5, 3))
    assert grid.x_range_m == grid.y_range_m == (-51.2, 51.2)
    assert (config.fpn.num_outputs, config.bev_levels, config.fpn.channels) == (5, 4, 256)
    assert (encoder.num_layers, encoder.num_heights, encoder.cross_points) == (6, 4, 8)
    assert (decoder.num_layers, decoder.num_queries, decoder.max_detections) == (6, 900, 300)
    assert config.perspective is not None and config.perspective.strides == (8, 16, 32, 64, 128)
    assert config.perspective.norm == "SyncBN" and config.perspective.official_parity
    assert config.proposals is None and config.loss.official_parity
    assert (recipe.batch_size, recipe.learning_rate, recipe.backbone_multiplier) == (16, 4e-4, 0.5)
    assert (recipe.weight_decay, recipe.betas, recipe.gradient_clip) == (0.01, (0.9, 0.999), 35)
    assert (recipe.warmup_steps, recipe.warmup_start, recipe.schedule) == (2000, 1 / 3, "step")
    assert (recipe.decay_at, recipe.decay_factor, recipe.layer_decay) == ((20 / 24,), 0.1, 1.0)
    assert recipe.num_steps == NUSCENES_TRAINING_SAMPLES * 24 // recipe.batch_size
    assert config.augmentation.photometric and config.augmentation.grid_mask == 0.7


def test_released_recipes_differ_as_released() -> None:
    base, t1, t2, t8 = (load_config(name) for name in RELEASED)
    assert base.decoder.num_groups == 1 and not base.augmentation.moves_bev
    assert base.augmentation.resize == (1, 1) and not base.augmentation.flip_images
    for config in (t1, t2, t8):
        augmentation = config.augmentation
        assert config.decoder.num_groups == 11
        low, high = augmentation.resize
        heights = [
            640 * (low + (high - low) * step / (augmentation.resize_steps - 1))
            for step in range(augmentation.resize_steps)
        ]
        assert heights == pytest.approx([512, 544, 576, 608, 640, 672, 704, 736, 768])
        assert augmentation.flip_images and augmentation.flip_x and augmentation.flip_y
        assert (augmentation.rotate_deg, augmentation.scale) == (22.5, (0.95, 1.05))
    assert (t1.frames, t2.frames, t8.frames) == ((0,), (-1, 0), tuple(range(-7, 1)))
    assert t1.temporal is None and t2.temporal is not None and t8.temporal is not None
    assert (t2.temporal.inter_channels, t8.temporal.inter_channels) == (None, 512)
    assert {t2.temporal.alignment, t8.temporal.alignment} == {"reproject"}
    assert {t2.temporal.num_fusion, t8.temporal.num_fusion} == {3}


@pytest.mark.parametrize("name", [*PAPER, BIDIRECTIONAL])
def test_paper_recipe_is_as_published(name: str) -> None:
    config = load_config(name)
    size = name.split("_")[2]
    variant = INTERNIMAGE_VARIANTS[f"internimage_{size}"]
    assert isinstance(config.backbone, InternImageConfig)
    assert replace(config.backbone, activation_checkpointing=False) == variant
    recipe = config.training
    rate, batch, decay = (5e-4, 32, 0.94) if size in ("l", "xl") else (4e-4, 16, 0.96)
    assert (recipe.learning_rate, recipe.batch_size, recipe.layer_decay) == (rate, batch, decay)
    assert recipe.num_steps == NUSCENES_TRAINING_SAMPLES * 24 // batch
    assert recipe.backbone_multiplier == 1 and not recipe.decay_norms_and_biases
    assert config.images.size == (640, 1600) and config.images.channel_order == "rgb"
    assert config.proposals is not None and config.perspective is not None
    assert not config.perspective.official_parity and config.grid.frame == "ego"


def test_bidirectional_looks_four_seconds_both_ways() -> None:
    config = load_config(BIDIRECTIONAL)
    assert config.temporal is not None and config.temporal.alignment == "warp"
    seconds = [frame * config.temporal.frame_interval_s for frame in config.frames]
    assert seconds == [-4.0, 0.0, 4.0]


def test_four_frames_on_a_cpu_have_every_stage() -> None:
    config, single = load_config("tiny_cpu_t4"), load_config("tiny_cpu")
    assert config.frames == (-3, -2, -1, 0) and config.proposals is not None
    assert config.perspective is not None and config.perspective.norm == "GN"
    assert config.proposals.start == "box"
    assert config.images == replace(single.images, size=(160, 400))
    assert math.prod(config.grid.shape) == 1600


@pytest.mark.parametrize("name", TINY)
def test_norms_of_our_own_configurations_need_no_batch(name: str) -> None:
    """Check that all norms are LN or GN, whose statistics do not depend on the other samples."""
    with torch.device("meta"):
        model = build_model(load_config(name))
    norms = {type(module) for module in model.modules() if "Norm" in type(module).__name__}
    assert norms and norms <= {nn.LayerNorm, nn.GroupNorm, ChannelsLastGroupNorm}


def test_the_brief_one_is_the_first_stage_of_four_frames() -> None:
    brief, whole = load_config("tiny_cpu_t4_brief"), load_config("tiny_cpu_t4")
    assert brief.backbone == whole.backbone and brief.temporal == whole.temporal
    assert brief.training.perspective_steps == brief.training.num_steps
    assert brief.proposals is not None and brief.proposals.max_per_class == 50
    # The nuScenes evaluation accepts at most 500 boxes of a sample: 50 of each of ten classes.
    assert brief.decoder.max_detections == brief.proposals.max_proposals == 50 * 10


def test_single_frame_on_a_cpu_stays_as_it_was() -> None:
    config = load_config("tiny_cpu")
    assert config.frames == (0,) and config.perspective is None and config.temporal is None
    assert isinstance(config, Config) and config.decoder.num_groups == 1
