"""Recognition and conversion of published 2D detectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import bevstack
from bevstack.cli.main import main
from bevstack.config.detection2d import DETECTION2D, Detection2DConfig
from bevstack.config.loading import load_task_config
from bevstack.interop.detection2d import convert_detector2d, recognise
from bevstack.interop.detection2d_names import REGION_ROWS
from bevstack.interop.public_weights import convert_weights
from bevstack.interop.published_files import PublishedFile
from bevstack.models.build_detection2d import save_detector2d
from bevstack.models.detection2d.model import RegionDetector
from bevstack.models.skeleton import skeleton
from bevstack.runtime.picture_detector import PictureDetector
from tests import internimage_heads_oracle as oracle
from tests.models.detection2d.test_dino_oracle import dino_config

SMALL = """
from dataclasses import replace
from bevstack.configs.detection2d.mask_rcnn_nano import CONFIG as NANO
from bevstack.config import InternImageConfig

CONFIG = replace(
    NANO,
    name="small",
    class_names=("a", "b", "c", "d", "e", "f"),
    channels=16,
    roi=replace(NANO.roi, hidden_channels=32, num_mask_convs=4),
    backbone=InternImageConfig(
        channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8), mlp_ratio=2.0, layer_scale=1.0,
        post_norm=True, drop_path_rate=0.0
    ),
)
"""


def published() -> dict[str, Tensor]:
    """Return the stored weights of the small Mask R-CNN, as a training writes them."""
    state = oracle.stored_state("maskrcnn_tiny")
    averages = {f"ema_{key.replace('.', '_')}": value + 1 for key, value in state.items()}
    return {**state, **averages}


def small(folder: Path) -> Path:
    path = folder / "small.py"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.mark.oracle("heads_maskrcnn_tiny_converted")
def test_a_published_file_becomes_a_detector_of_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": published(), "meta": {}}, tmp_path / "published.pth")
    out = tmp_path / "converted.safetensors"
    command = ["convert-weights", str(tmp_path / "published.pth"), "--out", str(out)]
    assert main([*command, "--config", str(small(tmp_path))]) == 0
    assert "ema_*" in capsys.readouterr().out
    detector = bevstack.load(out)
    assert isinstance(detector, PictureDetector)
    state = detector.model.state_dict()
    wanted, _ = convert_weights(oracle.stored_state("maskrcnn_tiny"), state, REGION_ROWS)
    assert all(torch.equal(state[name], value) for name, value in wanted.items())
    pictures = [np.full((h, w, 3), 90, np.uint8) for h, w in ((40, 64), (1, 1), (300, 20))]
    found = detector.detect(pictures)
    assert [len(own.boxes) == len(own.scores) for own in found] == [True] * 3
    again = detector.detect(pictures[:1])[0]
    assert torch.equal(again.boxes, found[0].boxes)
    with pytest.raises(ValueError, match="picture must be an array"):
        detector.detect([np.zeros((4, 4), np.uint8)])


def test_a_file_without_a_configuration_is_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with skeleton():
        shapes = {
            "backbone.patch_embed.conv2.weight": torch.empty(64, 32, 3, 3),
            "roi_head.bbox_head.fc_cls.weight": torch.empty(81, 1024),
        }
    for stage, depth in enumerate((4, 4, 18, 4)):
        key = f"backbone.levels.{stage}.blocks.{depth - 1}.mlp.fc1.weight"
        shapes[key] = torch.empty(1)
    found = recognise(shapes)
    assert found.configs == ("mask_rcnn_internimage_t_1x", "mask_rcnn_internimage_t_3x")
    file = {key: torch.zeros(value.shape) for key, value in shapes.items()}
    torch.save({"state_dict": file}, tmp_path / "published.pth")
    out = str(tmp_path / "out.safetensors")
    assert main(["convert-weights", str(tmp_path / "published.pth"), "--out", out]) != 0
    error = capsys.readouterr().err
    assert "Mask R-CNN" in error
    assert "mask_rcnn_internimage_t_1x" in error


@pytest.mark.oracle("heads_dino_tiny_converted")
def test_a_published_dino_becomes_a_detector_of_boxes(tmp_path: Path) -> None:
    case = oracle.manifest()["dino_tiny"]
    config = dino_config(case["model_config"], case["num_classes"])
    file = PublishedFile("dino.pth", oracle.stored_state("dino_tiny"), {})
    converted = convert_detector2d(file, config)
    assert not converted.report.missing
    out = tmp_path / "dino.safetensors"
    save_detector2d(out, converted.weights, config)
    detector = bevstack.load(out)
    assert detector.config == config
    (found,) = detector.detect([np.full((40, 64, 3), 90, np.uint8)])
    assert len(found) == case["model_config"]["test_cfg"]["max_per_img"]
    assert found.mask_values is None
    assert not detector.has_masks
    with pytest.raises(ValueError, match="mask_values"):
        next(detector.masks(found, (40, 64)))


LISTS = (
    ("MaskRCNN_T", "Mask R-CNN", ("mask_rcnn_internimage_t_1x", "mask_rcnn_internimage_t_3x")),
    (
        "CascadeMaskRCNN_XL",
        "Cascade Mask R-CNN",
        ("cascade_mask_rcnn_internimage_xl_1x", "cascade_mask_rcnn_internimage_xl_3x"),
    ),
    ("UperNet_T", "UperNet", ()),
    ("Mask2Former_H_ade20k", "Mask2Former", ()),
)


@pytest.mark.oracle(*(f"heads_recognised_{row[0]}" for row in LISTS))
@pytest.mark.parametrize(("released", "kind", "configs"), LISTS)
def test_released_lists_of_names_are_recognised(
    released: str, kind: str, configs: tuple[str, ...]
) -> None:
    keys = oracle.key_list(f"state_dict_keys_{released}")["keys"]
    with skeleton():
        found = recognise({key: torch.empty(shape) for key, shape in keys.items()})
    assert found.kind == kind
    assert found.configs[: len(configs)] == configs


@pytest.mark.oracle("heads_cascade_tiny_refused")
def test_another_kind_or_a_missing_name_is_refused() -> None:
    config = load_task_config(Detection2DConfig, DETECTION2D, "mask_rcnn_nano")
    cascade = PublishedFile("cascade.pth", oracle.stored_state("cascade_tiny"), {})
    with pytest.raises(ValueError, match=r"must be of a Mask R-CNN .* holds Cascade Mask R-CNN"):
        convert_detector2d(cascade, config)
    with skeleton():
        names = RegionDetector(config).state_dict()
    assert "stages.0.mask_head.logits.weight" in names
    lacking = oracle.stored_state("maskrcnn_tiny")
    del lacking["roi_head.mask_head.conv_logits.bias"]
    with pytest.raises(ValueError, match=r"shape|missing"):
        convert_detector2d(PublishedFile("mask.pth", lacking, {}), config)
