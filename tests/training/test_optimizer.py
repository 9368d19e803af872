"""Learning rate schedule against values by hand, and parameter groups."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from bevstack.config import InternImageConfig, TrainingConfig, load_config
from bevstack.config.picture_detectors import load_picture_detector
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.backbones.resnet import ResNet, ResNetConfig
from bevstack.models.build import build_model
from bevstack.models.detection2d.build import build_picture_model
from bevstack.models.skeleton import skeleton
from bevstack.training.optimizer import (
    layer_multipliers,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)

STEP = TrainingConfig(
    num_steps=100, learning_rate=0.4, warmup_steps=10, decay_at=(0.5, 0.8), decay_factor=0.1
)
COSINE = TrainingConfig(num_steps=110, learning_rate=0.4, warmup_steps=10, schedule="cosine")


@pytest.mark.parametrize(
    ("step", "want"),
    [(0, 0.4 / 3), (5, 0.4 * 2 / 3), (10, 0.4), (49, 0.4), (50, 0.04), (80, 0.004), (99, 0.004)],
)
def test_warm_up_and_steps(step, want):
    assert learning_rate(step, STEP) == pytest.approx(want)


@pytest.mark.parametrize(
    ("step", "want"),
    [(0, 0.4 / 3), (10, 0.4), (60, 0.2), (110, 0.0), (35, 0.2 * (1 + math.cos(math.pi / 4)))],
)
def test_warm_up_and_cosine(step, want):
    assert learning_rate(step, COSINE) == pytest.approx(want)


def test_linear_equals_the_released_poly_schedule_of_power_one():
    config = TrainingConfig(
        num_steps=40, learning_rate=0.4, warmup_steps=8, warmup_start=1e-6, schedule="linear"
    )
    for step in range(40):
        rate = 0.4 * (1 - step / 40) ** 1.0
        if step < 8:  # the released warm-up lowers the rate of the schedule
            rate *= 1 - (1 - step / 8) * (1 - 1e-6)
        assert learning_rate(step, config) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(
    ("step", "want"),
    [
        *((0, 0.4 / 3), (5, 0.4 * 2 / 3), (10, 0.4), (19, 0.4)),  # the first stage: no decay
        *((20, 0.4 / 3), (30, 0.4), (69, 0.4), (70, 0.04), (99, 0.04), (100, 0.004)),
    ],
)
def test_each_stage_warms_up_and_the_second_stage_decays_over_its_own_steps(step, want):
    config = dataclasses.replace(STEP, num_steps=120, perspective_steps=20)
    assert learning_rate(step, config) == pytest.approx(want)


@pytest.mark.parametrize(("step", "want"), [(20, 0.4), (29, 0.4), (30, 0.4 / 3), (90, 0.2)])
def test_cosine_starts_with_the_second_stage(step, want):
    config = dataclasses.replace(COSINE, num_steps=140, perspective_steps=30)
    assert learning_rate(step, config) == pytest.approx(want)


@pytest.mark.parametrize("config", [STEP, COSINE])
def test_the_first_stage_decays_if_there_is_no_second(config):
    alone = dataclasses.replace(config, perspective_steps=config.num_steps)
    for step in range(config.num_steps):
        assert learning_rate(step, alone) == learning_rate(step, config)


def test_backbone_has_its_own_rate_and_every_parameter_one_group():
    model = nn.ModuleDict({"backbone": nn.Linear(2, 3), "head": nn.Linear(3, 1)})
    optimizer = make_optimizer(model, TrainingConfig(backbone_multiplier=0.25))
    set_learning_rate(optimizer, 0.8)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in model["backbone"].parameters()] == [0.2, 0.2]
    assert [rates[id(p)] for p in model["head"].parameters()] == [0.8, 0.8]
    assert len(rates) == 4


def detector(backbone):
    return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(3, 2)})


def small_internimage(**flags):
    config = InternImageConfig(
        channels=8, depths=(2, 1, 3, 2), groups=(1, 2, 2, 2), layer_scale=1.0, **flags
    )
    with torch.device("meta"):
        return detector(InternImage(config))


# Layers counted by hand: 0 stem, 1 2 | 3 | 4 5 6 | 7 8 blocks, 9 everything else.
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("backbone.patch_embed.conv1.weight", 0),
        ("backbone.patch_embed.norm2.bias", 0),
        ("backbone.levels.0.blocks.0.gamma1", 1),
        ("backbone.levels.0.blocks.1.dcn.offset.weight", 2),
        ("backbone.levels.0.norm.weight", 3),
        ("backbone.levels.0.downsample.conv.weight", 3),
        ("backbone.levels.1.blocks.0.mlp.fc1.weight", 3),
        ("backbone.levels.1.downsample.norm.bias", 4),
        ("backbone.levels.2.blocks.0.norm1.weight", 4),
        ("backbone.levels.2.blocks.2.dcn.mask.bias", 6),
        ("backbone.levels.2.post_norms.0.weight", 7),
        ("backbone.levels.2.downsample.conv.weight", 7),
        ("backbone.levels.3.blocks.1.gamma2", 8),
        ("backbone.levels.3.norm.bias", 7),
        ("head.weight", 9),
    ],
)
def test_each_layer_has_a_fraction_of_the_rate_of_the_next(name, layer):
    model = small_internimage(level2_post_norm_block_ids=(1,))
    names = [name for name, _ in model.named_parameters()]
    assert layer_multipliers(names, 0.5)[name] == 0.5 ** (9 - layer)
    optimizer = make_optimizer(model, TrainingConfig(layer_decay=0.5, backbone_multiplier=0.25))
    set_learning_rate(optimizer, 8.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    wanted = 8.0 * 0.5 ** (9 - layer) * (0.25 if name.startswith("backbone.") else 1.0)
    assert rates[id(dict(model.named_parameters())[name])] == pytest.approx(wanted)
    assert len(rates) == len(names)


def test_released_number_of_layers_of_the_largest_detector():
    """Check the factors for 39 blocks: the stem trains at 0.94 to the power of 40."""
    config = load_config("bevformerv2_internimage_xl_t1")
    with torch.device("meta"):
        model = build_model(config)
    factors = layer_multipliers([n for n, _ in model.named_parameters()], 0.94)
    assert factors["backbone.patch_embed.conv1.weight"] == pytest.approx(0.94**40)
    assert factors["backbone.levels.3.blocks.4.gamma2"] == pytest.approx(0.94)
    assert factors["decoder.query_embedding"] == 1.0
    optimizer = make_optimizer(model, config.training)
    multipliers = sorted({group["multiplier"] for group in optimizer.param_groups})
    assert multipliers == pytest.approx([0.94**power for power in range(40, -1, -1)])


def test_layer_decay_of_another_backbone_is_refused():
    model = detector(ResNet(ResNetConfig(base_channels=2)))
    assert len(make_optimizer(model, TrainingConfig()).param_groups) == 2
    with pytest.raises(ValueError, match=r"layer_decay must be 1 .* backbone\.conv1\.weight"):
        make_optimizer(model, TrainingConfig(layer_decay=0.9))


def test_weight_decay_is_on_everything_or_spares_norms_and_biases():
    model = small_internimage()
    named = dict(model.named_parameters())
    everything = make_optimizer(model, TrainingConfig(weight_decay=0.3))
    assert {group["weight_decay"] for group in everything.param_groups} == {0.3}
    recipe = TrainingConfig(weight_decay=0.3, decay_norms_and_biases=False)
    spared = make_optimizer(model, recipe)
    decay = {id(p): group["weight_decay"] for group in spared.param_groups for p in group["params"]}
    assert len(decay) == len(named)
    block = "backbone.levels.2.blocks.0."
    for name in ("norm1.weight", "mlp.fc1.bias", "gamma1", "dcn.dw_norm.weight", "dcn.mask.bias"):
        assert decay[id(named[block + name])] == 0.0
    for name in ("mlp.fc1.weight", "dcn.dw_conv.weight", "dcn.offset.weight"):
        assert decay[id(named[block + name])] == 0.3
    assert (decay[id(named["head.weight"])], decay[id(named["head.bias"])]) == (0.3, 0.0)


RATES = {  # smallest and largest factor of the learning rate, of each packaged DINO
    "dino_internimage_t_1x": (0.9**31, 1.0),
    "dino_internimage_l_1x": (0.9**38, 1.0),
    "dino_internimage_l_1x_slow_backbone": (0.1, 1.0),
    "dino_internimage_h": (1e-3, 1.0),  # sampling offsets; the stem has 0.94**51
    "dino_internimage_cb_h": (1e-3, 1.0),
}


@pytest.mark.parametrize("name", RATES)
def test_released_detectors_of_pictures_train_at_the_released_rates(name: str) -> None:
    config = load_picture_detector(name)
    with skeleton():
        model = build_picture_model(config)
    groups = make_optimizer(model, config.training).param_groups
    multipliers = [group["multiplier"] for group in groups]
    assert (min(multipliers), max(multipliers)) == pytest.approx(RATES[name])
    factors = {id(p): group["multiplier"] for group in groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for key, parameter in model.named_parameters():
        if "sampling_offsets" in key:
            assert factors[id(parameter)] == config.training.offset_multiplier
            assert decays[id(parameter)] == 0
    if "slow_backbone" in name:
        slow = {factors[id(p)] for k, p in model.named_parameters() if k.startswith("backbone.")}
        assert slow == {0.1}
