"""Conversion of published models that label pixels, and their use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import bevstack
from bevstack.cli.main import main
from bevstack.config.segmenters import load_segmenter
from bevstack.interop.public_weights import convert_weights
from bevstack.interop.published_files import PublishedFile
from bevstack.interop.segmentation import convert_segmenter, describe, fitting_segmenters
from bevstack.interop.segmentation_names import UPERNET_ROWS
from bevstack.models.build_segmentation import save_segmenter
from bevstack.runtime.pixel_labeller import PixelLabeller
from tests import internimage_heads_oracle as oracle
from tests.models.segmentation.mask_oracle import mask_config

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

# A detector of 3D boxes on the same backbone
DETECTOR = """
from dataclasses import replace

from bevstack.config import InternImageConfig
from bevstack.configs.tiny_cpu import CONFIG as TINY

CONFIG = replace(
    TINY,
    name="small",
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


@pytest.mark.oracle("heads_mask2former_tiny_converted")
def test_a_published_mask2former_labels_pictures_of_any_size(tmp_path: Path) -> None:
    case, stored = oracle.manifest()["mask2former_tiny"], oracle.arrays("mask2former_tiny")
    file = PublishedFile("masks.pth", oracle.stored_state("mask2former_tiny"), {})
    config = mask_config(case)
    converted = convert_segmenter(file, config)
    assert not converted.report.missing and not converted.report.left_over
    save_segmenter(tmp_path / "masks.safetensors", converted.weights, config)
    labeller = bevstack.load(tmp_path / "masks.safetensors")
    assert isinstance(labeller, PixelLabeller)
    assert labeller.config == config and len(labeller.class_names) == 6
    picture = np.ascontiguousarray(stored["image_u8"][0].transpose(1, 2, 0))
    (labels,) = labeller.segment([picture])  # 96 x 128, the size at the network's input
    with torch.no_grad():
        images = oracle.normalised_images(stored["image_u8"][:1])
        alike = labeller.model.pixel_logits(images)[0].argmax(0).numpy()
    assert (labels != alike).sum() <= 5  # of 12,288 pixels; rounding of the normalisation
    pictures = [np.full((h, w, 3), 90, np.uint8) for h, w in ((40, 64), (1, 1), (300, 20))]
    found = labeller.segment(pictures, ratios=(0.5, 1.0), mirror=True)
    assert [own.shape for own in found] == [p.shape[:2] for p in pictures]
    windows = replace(config.pictures, window_px=(64, 64), window_step_px=(32, 32))
    slid = tmp_path / "slid.safetensors"
    save_segmenter(slid, converted.weights, replace(config, pictures=windows))
    assert bevstack.load(slid).segment([picture])[0].shape == labels.shape
    with pytest.raises(ValueError, match="weights must be of UperNet"):
        convert_segmenter(file, load_segmenter("upernet_internimage_t_512_ade20k"))


@pytest.mark.oracle("heads_fitting_Mask2Former_H_ade20k")
def test_configurations_of_mask2former_fit_by_classes_and_width() -> None:
    listed = oracle.key_list("state_dict_keys_Mask2Former_H_ade20k")["keys"]
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in listed.items()}
        text = describe(PublishedFile("x.pth", tensors, {}))
        assert text.endswith("which fits mask2former_internimage_h_896_ade20k")
        for shape, wanted in (
            ((172, 1024), {"cocostuff164k", "cocostuff10k"}),
            ((20, 256), {"cityscapes", "mapillary"}),
            ((20, 1024), set()),
        ):
            tensors["decode_head.cls_embed.weight"] = torch.empty(shape)
            found = fitting_segmenters(tensors)
            assert {name.rpartition("_")[2] for name in found} == wanted


@pytest.mark.oracle("heads_upernet_tiny_backbone", "heads_mask2former_tiny_backbone")
@pytest.mark.parametrize("name", ["upernet_tiny", "mask2former_tiny"])
def test_a_segmenter_gives_its_backbone_to_a_detector_of_3d_boxes(
    name: str, tmp_path: Path
) -> None:
    state = oracle.stored_state(name)
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "published.pth")
    (tmp_path / "detector.py").write_text(DETECTOR, encoding="utf-8")
    out = tmp_path / "start.safetensors"
    command = ["convert-weights", str(tmp_path / "published.pth"), "--out", str(out)]
    assert main([*command, "--config", str(tmp_path / "detector.py"), "--backbone"]) == 0
    stored = oracle.arrays(name)
    with torch.no_grad():
        images = oracle.normalised_images(stored["image_u8"])
        stages = bevstack.load(out).model.backbone(images)
    for key, got in zip(("c3", "c4", "c5"), stages, strict=True):
        oracle.assert_close(key, got, stored[key], 5e-5)
