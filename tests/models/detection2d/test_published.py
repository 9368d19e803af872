"""The packaged detectors against the released ones: sizes, names of weights, full-size outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bevstack.config import packaged_configs
from bevstack.config.detection2d import DETECTION2D, Detection2DConfig
from bevstack.config.loading import load_task_config
from bevstack.config.picture_detectors import (
    load_picture_detector,
    picture_detector_from_json,
    picture_detector_to_json,
)
from bevstack.costs.macs import count_parameters
from bevstack.interop.detection2d_names import AVERAGES
from bevstack.models.detection2d.model import RegionDetector
from bevstack.models.detection2d.regions import join_regions
from bevstack.models.skeleton import skeleton
from tests import internimage_heads_oracle as oracle
from tests.models.detection2d.region_oracle import load_published, picture_size
from tests.models.detection2d.test_region_oracle import check_detections, same_rows

# Published parameters in millions (README of the released code).
MILLIONS = {"mask_rcnn_t": 49, "mask_rcnn_s": 69, "mask_rcnn_b": 115, "cascade_mask_rcnn_l": 277}
MILLIONS["cascade_mask_rcnn_xl"] = 387


def load(name: str) -> Detection2DConfig:
    return load_task_config(Detection2DConfig, DETECTION2D, name)


def packaged_name(released: str) -> str:
    """Return the packaged name, without the schedule, of a released list of keys."""
    kind, size = released.split("_")
    kinds = {"MaskRCNN": "mask_rcnn", "CascadeMaskRCNN": "cascade_mask_rcnn"}
    return f"{kinds[kind]}_internimage_{size.lower()}"


PUBLISHED = [name for name in packaged_configs(DETECTION2D) if "rcnn_internimage" in name]


@pytest.mark.parametrize("name", packaged_configs(DETECTION2D))
def test_packaged_configuration_survives_json_with_its_kind(name: str) -> None:
    config = load_picture_detector(name)
    assert config.name == name
    assert picture_detector_from_json(picture_detector_to_json(config)) == config


@pytest.mark.parametrize("name", PUBLISHED)
def test_packaged_configuration_has_the_published_size(name: str) -> None:
    config = load(name)
    with skeleton():
        parameters = count_parameters(RegionDetector(config))
    key = name.replace("internimage_", "")[:-3]
    assert round(parameters / 1e6) == MILLIONS[key]


REGIONS = ["MaskRCNN_T", "MaskRCNN_S", "MaskRCNN_B", "CascadeMaskRCNN_L", "CascadeMaskRCNN_XL"]


@pytest.mark.oracle(*(f"heads_keys_{name}" for name in REGIONS))
@pytest.mark.parametrize("released", REGIONS)
def test_names_of_the_heads_are_all_consumed(released: str) -> None:
    listed = oracle.key_list("head_keys_all")[released]
    with skeleton():
        model = RegionDetector(load(f"{packaged_name(released)}_3x"))
        state = {key: torch.empty(shape) for key, shape in listed["head_keys"].items()}
    load_published(model, state, allow_missing=["backbone.*"])
    own = [key for key in model.state_dict() if key.startswith("backbone.")]
    assert len(own) == listed["num_backbone_keys"]
    assert len(model.state_dict()) == listed["num_keys"]
    assert count_parameters(model) == listed["num_params"]


@pytest.mark.oracle("heads_all_keys_MaskRCNN_T", "heads_all_keys_CascadeMaskRCNN_XL")
@pytest.mark.parametrize("released", ["MaskRCNN_T", "CascadeMaskRCNN_XL"])
def test_names_of_a_whole_file_are_all_consumed_without_its_averages(released: str) -> None:
    listed = oracle.key_list(f"state_dict_keys_{released}")
    with skeleton():
        model = RegionDetector(load(f"{packaged_name(released)}_1x"))
        state = {key: torch.empty(shape) for key, shape in listed["keys"].items()}
        averages = {f"ema_{key.replace('.', '_')}": value for key, value in state.items()}
    load_published(model, state)
    load_published(model, state | averages, allow_left_over=AVERAGES)
    with pytest.raises(ValueError, match="left over: ema_"):
        load_published(model, state | averages)


@pytest.mark.parametrize(
    "name", oracle.cases("mask_full_rule_weights", "cascade_full_rule_weights")
)
@torch.no_grad()
def test_full_size_heads_equal_the_stored_outputs(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    cascade = name.startswith("cascade")
    released = "CascadeMaskRCNN_XL" if cascade else "MaskRCNN_T"
    listed = oracle.key_list("head_keys_all")[released]["head_keys"]
    with skeleton():
        model = RegionDetector(load(f"{packaged_name(released)}_1x"))
    load_published(model, oracle.ruled_state(case, listed.items()), allow_missing=["backbone.*"])
    model.eval()
    check_full(model, case, stored)


def check_full(model: RegionDetector, case: dict[str, Any], stored: dict[str, Any]) -> None:
    size = picture_size(case["img_metas"][0])
    pyramid = model.neck(oracle.ruled_inputs(case))
    output = model.rpn(pyramid)
    for level, key in enumerate(("p2", "p3", "p4", "p5", "p6")):
        # README beside the cases: 2e-4 on outputs up to about 30
        part = pyramid[level][:, ::16, ::2, ::2]
        oracle.assert_close(key, part, stored[f"fpn_{key}_sub"], 2e-4)
        oracle.assert_close(key, output.logits[level], stored[f"rpn_cls_{key}"], 2e-4)
        oracle.assert_close(key, output.codes[level], stored[f"rpn_reg_{key}"], 2e-4)
    (found,) = model.rpn.propose(output, [size.resized])
    same_rows(torch.cat((found.boxes, found.scores[:, None]), 1), stored["proposals_0"], 1e-3)
    regions = stored["proposals_0"][:, :4]
    check_stages(model, stored, pyramid)
    check_detections(model.detect_in_regions(pyramid, regions, size), stored, 0, size)


def check_stages(model: RegionDetector, stored: dict[str, Any], pyramid: Any) -> None:
    if "bbox_cls_first40" in stored:
        first = stored["proposals_0"][:40, :4]
        output = model.stages[0].boxes(pyramid, join_regions([first]))
        oracle.assert_close("classes", output.logits, stored["bbox_cls_first40"], 2e-4)
        oracle.assert_close("codes", output.codes[:10], stored["bbox_reg_first10"], 2e-4)
    for index, stage in enumerate(model.stages):
        key = f"s{index}_rois_first40"
        if key in stored:
            output = stage.boxes(pyramid, stored[key])
            oracle.assert_close(key, output.logits, stored[f"s{index}_cls_first40"], 2e-4)
            oracle.assert_close(key, output.codes[:10], stored[f"s{index}_reg_first10"], 2e-4)
            masks = stage.masks(pyramid, stored["mask_rois_first4"])[:, ::10]
            key = f"s{index}_mask_logits_first4_every10th_class"
            oracle.assert_close(key, masks, stored[key], 2e-4)
