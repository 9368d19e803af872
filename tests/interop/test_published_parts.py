"""Every key of the published backbone and temporal fusion has a counterpart."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from bevstack.config.resnet import ResNetConfig
from bevstack.config.temporal import TemporalConfig
from bevstack.interop.bevformer_names import BEVFORMER_V2
from bevstack.interop.public_weights import convert_weights
from bevstack.models.backbones.resnet import ResNet
from bevstack.models.temporal.fusion import TemporalFusion
from tests.conftest import shared_dir

FUSION = "pts_bbox_head.transformer.fusion."
DETECTORS = {"t2": ((-1, 0), None), "t8": (tuple(range(-7, 1)), 512)}


def published_keys(name: str, prefix: str) -> dict[str, Tensor]:
    shared = shared_dir()
    assert shared is not None
    path = shared / "oracle" / "bevformer_v2" / f"keys_bevformerv2_r50_{name}.json"
    listed = json.loads(path.read_text(encoding="utf-8"))["state_dict"]
    return {
        entry["key"]: torch.empty(entry["shape"], device="meta")
        for entry in listed
        if entry["key"].startswith(prefix)
    }


def expect_all_matched(published: dict[str, Tensor], module: nn.Module, ours: str) -> None:
    """Check that no key is left over, missing or of another shape."""
    wanted = {ours + name: value for name, value in module.state_dict().items()}
    converted, report = convert_weights(published, wanted, BEVFORMER_V2)
    assert converted.keys() == wanted.keys()
    assert len(report.matched) == len(published) == len(wanted)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.oracle(f"keys_bevformerv2_r50_{name}"))
        for name in ("t1-base", "t1", "t2", "t8")
    ],
)
def test_every_backbone_key_has_a_counterpart(name: str) -> None:
    with torch.device("meta"):
        backbone = ResNet(ResNetConfig())
    published = published_keys(name, "img_backbone.")
    assert len(published) == 53 * 6  # convolutions, each with the five tensors of its norm
    expect_all_matched(published, backbone, "backbone.")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.oracle(f"keys_bevformerv2_r50_{name}"))
        for name in DETECTORS
    ],
)
def test_every_fusion_key_has_a_counterpart(name: str) -> None:
    frames, inter_channels = DETECTORS[name]
    with torch.device("meta"):
        config = TemporalConfig(inter_channels=inter_channels)
        fusion = TemporalFusion(config, channels=256, frames=frames)
    published = published_keys(name, FUSION)
    assert len(published) > 3 * 2 * 6
    expect_all_matched(published, fusion, "fusion.")
