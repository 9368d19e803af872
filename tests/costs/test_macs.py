from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bevstack.config.internimage import classification_config, detection_config
from bevstack.costs.macs import (
    MACCounts,
    count_macs,
    count_parameters,
    run_and_count,
    shapes_only,
)
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.classification.internimage_heads import InternImageClassifier
from bevstack.ops import dcnv3, ms_deform_attn

# Measured on the released code: name, image side in pixels, parameters of the classifier (1000
# classes) and of the detection backbone, GMAC of convolutions and linear layers, the total with 5 N
# K C for the operator, and the number of its printed digits.
TABLE = [
    ("internimage_t", 224, 29_918_424, 28_769_520, 4.786, 4.885, 3),
    ("internimage_s", 224, 50_079_880, 48_502_560, 8.173, 8.306, 3),
    ("internimage_b", 224, 97_461_832, 94_909_920, 15.997, 16.182, 3),
    ("internimage_l", 384, 223_334_810, 218_952_370, 106.888, 107.792, 3),
    ("internimage_xl", 384, 334_819_780, 328_971_228, 161.805, 162.930, 3),
    ("internimage_h", 640, 1_089_636_760, 1_073_122_480, 1478.868, 1485.4, 1),
    ("internimage_g", 512, 3_076_373_352, 3_052_781_184, 2695.576, 2701.4, 1),
]


def classifier_macs(name: str, side: int) -> MACCounts:
    with torch.device("meta"):
        model = InternImageClassifier(classification_config(name)).eval()
        return count_macs(model, torch.empty(1, 3, side, side))


@pytest.mark.parametrize(
    ("name", "side", "classifier", "backbone", "gmac", "total", "digits"), TABLE
)
def test_parameters_and_macs_equal_the_released_code(
    name: str, side: int, classifier: int, backbone: int, gmac: float, total: float, digits: int
) -> None:
    with torch.device("meta"):
        assert count_parameters(InternImageClassifier(classification_config(name))) == classifier
        assert count_parameters(InternImage(detection_config(name))) == backbone
    macs = classifier_macs(name, side)
    assert round(macs.conv_and_linear / 1e9, 3) == gmac
    assert round((macs.conv_and_linear + macs.sampling) / 1e9, digits) == total


@pytest.mark.parametrize("name", ["internimage_t", "internimage_xl"])
def test_published_sizes_up_to_xl_have_no_products_outside_the_table(name: str) -> None:
    assert classifier_macs(name, 224).other_matmul == 0


def test_large_sizes_add_the_gate_and_the_attention_pooling() -> None:
    config = classification_config("internimage_h")
    side = 256
    gates = sum(
        depth * (side // (4 << stage)) ** 2 * config.groups[stage] * config.stage_channels[stage]
        for stage, depth in enumerate(config.depths)
    )
    tokens, dim = (side // 16) ** 2, 1024
    pooling = (1 + 2 * tokens) * dim * dim + 2 * tokens * dim  # q, k, v; scores and their sums
    assert classifier_macs("internimage_h", side).other_matmul == gates + pooling


def test_backbone_at_driving_resolution_takes_1120_gmac() -> None:
    with torch.device("meta"):
        model = InternImage(detection_config("internimage_xl")).eval()
        macs = count_macs(model, torch.empty(1, 3, 640, 1600))
    assert macs.conv_and_linear / 1e9 == pytest.approx(1120.1, abs=0.05)
    assert macs.sampling / 1e9 == pytest.approx(7.8, abs=0.05)


def test_one_layer_equals_its_formula() -> None:
    with torch.device("meta"):
        config = detection_config("internimage_h")
        layer = InternImage(config).levels[1].blocks[0].dcn
        macs = count_macs(layer, torch.empty(2, 7, 11, 640))
    pixels, channels, groups = 2 * 7 * 11, 640, 20
    projections = 2 * channels * channels + 27 * groups * channels
    assert macs.conv == pixels * 25 * channels
    assert macs.linear == pixels * projections
    assert macs.other_matmul == pixels * groups * channels
    assert macs.sampling == 5 * pixels * 9 * channels
    assert macs.total == macs.conv_and_linear + macs.other_matmul + macs.sampling


class Sampler(nn.Module):
    """Both deformable operators, with a different size for every axis."""

    def forward(self, value: Tensor) -> Tensor:
        flat = ms_deform_attn(
            value.reshape(1, 15, 2, 7),
            [(3, 5)],
            value.new_zeros(1, 11, 2, 1, 4, 2),
            value.new_zeros(1, 11, 2, 1, 4),
        )
        moved = dcnv3(
            value,
            value.new_zeros(1, 2, 3, 2 * 8 * 2),
            value.new_zeros(1, 2, 3, 2 * 8),
            kernel_size=(3, 3),
            stride=(2, 2),
            padding=(1, 1),
            dilation=(1, 1),
            groups=2,
            remove_center=True,
        )
        return flat.sum() + moved.sum()


@pytest.mark.parametrize("where", ["cpu", "meta"])
def test_operators_count_five_a_sample_and_channel_on_any_device(where: str) -> None:
    macs = count_macs(Sampler(), torch.zeros(1, 3, 5, 14, device=where))
    assert macs.sampling == 5 * (11 * 2 * 4 * 7 + 2 * 3 * 8 * 14)
    assert macs.total == macs.sampling


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2, bias=False))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    macs = count_macs(model.eval(), torch.ones(4, 3))
    assert macs == MACCounts(conv=0, linear=4 * (15 + 10), other_matmul=0, sampling=0)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_taken_off_when_the_model_fails() -> None:
    model = nn.Sequential(nn.Linear(3, 5))
    with pytest.raises(RuntimeError):
        count_macs(model, torch.ones(4, 4))
    assert not model[0]._forward_hooks


def test_shared_parameters_count_once_and_frozen_ones_only_when_asked() -> None:
    model = nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 1)])
    model.append(model[0])
    model[1].requires_grad_(False)
    assert count_parameters(model) == 30 + 7
    assert count_parameters(model, trainable_only=True) == 30


class Attention(nn.Module):
    """Scaled dot products, with a different size for every axis."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(query, key, value)


@pytest.mark.parametrize("trains", [False, True])
def test_attention_counts_scores_and_sums_with_every_kernel(trains: bool) -> None:
    """Use two heads of 3 queries, 5 keys, 8 channels; without gradients a fused kernel runs."""
    query, key = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 5, 8, requires_grad=trains)
    macs = count_macs(Attention(), query, key, torch.randn(1, 2, 5, 8))
    assert macs.other_matmul == macs.total == 2 * 3 * 5 * (8 + 8)


def test_tensors_without_data_have_the_same_counts() -> None:
    def network() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(100, 2))

    expected, output = run_and_count(network().eval(), torch.zeros(2, 3, 7, 7))
    with torch.device("meta"):
        model = network().eval()
    with shapes_only(model), torch.autocast("cpu", enabled=False):  # fails on the meta device
        macs, shape = run_and_count(model, torch.zeros(2, 3, 7, 7))
    assert macs == expected and shape.shape == output.shape and shape.device.type == "cpu"
