"""Conversion of published models that label pixels, and their use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import bevstack
from bevstack.cli.main import main
from bevstack.interop.public_weights import convert_weights
from bevstack.interop.published_files import PublishedFile
from bevstack.interop.segmentation import describe
from bevstack.interop.segmentation_names import UPERNET_ROWS
from bevstack.runtime.pixel_labeller import PixelLabeller
from tests import internimage_heads_oracle as oracle

SMALL = """
from bevstack.config import InternImageConfig
from bevstack.config.segmentation import LabelHeadConfig, LabelledSizeConfig, SegmentationConfig

CONFIG = SegmentationConfig(
    name="small",
    class_names=("a", "b", "c", "d", "e", "f"),
    num_outputs=6,
    pictures=LabelledSizeConfig(long_side=128, short_side=96),
    head=LabelHeadConfig(channels=24, auxiliary_channels=12),
    backbone=InternImageConfig(
        channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8), mlp_ratio=2.0, layer_scale=1.0,
        post_norm=True, drop_path_rate=0.0
    ),
)
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    state = oracle.stored_state("upernet_tiny")
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "published.pth")
    (tmp_path / "small.py").write_text(SMALL, encoding="utf-8")
    out = str(tmp_path / "small.safetensors")
    return ["convert-weights", str(tmp_path / "published.pth"), "--out", out]


@pytest.mark.oracle("heads_upernet_tiny_converted")
def test_a_published_file_labels_pictures_of_any_size(command: list[str], tmp_path: Path) -> None:
    assert main([*command, "--config", str(tmp_path / "small.py")]) == 0
    labeller = bevstack.load(command[-1])
    assert isinstance(labeller, PixelLabeller)
    assert labeller.class_names == ("a", "b", "c", "d", "e", "f")
    state = labeller.model.state_dict()
    wanted, _ = convert_weights(oracle.stored_state("upernet_tiny"), state, UPERNET_ROWS)
    assert all(torch.equal(state[name], value) for name, value in wanted.items())
    stored = oracle.arrays("upernet_tiny")
    picture = np.ascontiguousarray(stored["image_u8"][0].transpose(1, 2, 0))
    (labels,) = labeller.segment([picture])  # 96 x 128, the size at the network's input
    with torch.no_grad():
        images = oracle.normalised_images(stored["image_u8"][:1])
        alike = labeller.model.pixel_logits(images)[0].argmax(0).numpy()
    assert (labels != alike).sum() <= 5  # of 12,288 pixels; rounding of the normalisation
    pictures = [np.full((h, w, 3), 90, np.uint8) for h, w in ((40, 64), (1, 1), (300, 20))]
    found = labeller.segment(pictures, ratios=(0.5, 1.0), mirror=True)
    assert [own.shape for own in found] == [p.shape[:2] for p in pictures]
    assert all(own.dtype == np.uint8 and own.max() < 6 for own in found)
    with pytest.raises(ValueError, match="picture must be an array of uint8"):
        labeller.segment([np.zeros((4, 4), np.uint8)])


@pytest.mark.oracle("heads_upernet_tiny_refused")
def test_files_of_other_models_and_options_without_effect_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", "segformer_internimage_l_512x1024_cityscapes"]
    assert main([*command, *config]) == 2
    assert "weights must be of SegFormer for" in capsys.readouterr().err
    assert main([*command, "--config", str(tmp_path / "small.py"), "--backbone"]) == 2
    assert "--backbone must be left out for small" in capsys.readouterr().err
    assert main(command) == 2
    assert "published.pth holds UperNet on InternImage of 16" in capsys.readouterr().err


@pytest.mark.oracle("heads_fitting_UperNet_T", "heads_fitting_UperNet_XL")
@pytest.mark.parametrize("size", ["T", "XL"])
def test_the_kind_and_the_configurations_that_fit_follow_from_the_names(size: str) -> None:
    listed = oracle.key_list(f"state_dict_keys_UperNet_{size}")["keys"]
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in listed.items()}
    text = describe(PublishedFile("x.pth", tensors, {}))
    side = {"T": 512, "XL": 640}[size]
    assert f"upernet_internimage_{size.lower()}_{side}_ade20k" in text
    assert f"upernet_internimage_{size.lower()}_512x1024_cityscapes" in text
    assert "segformer" not in text
