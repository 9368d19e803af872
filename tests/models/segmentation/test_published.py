"""The packaged segmenters against the released ones: sizes, names of weights, full-size outputs."""

from __future__ import annotations

import pytest
import torch

from bevstack.config import packaged_configs
from bevstack.config.published_mask_segmentation import (
    COCO_STUFF_CLASSES,
    CONTEXT_CLASSES,
    NYU_CLASSES,
)
from bevstack.config.published_segmentation import ADE20K_CLASSES, CITYSCAPES_CLASSES
from bevstack.config.segmentation import SEGMENTATION, SegmentationConfig
from bevstack.config.segmenters import (
    SegmenterConfig,
    load_segmenter,
    segmenter_from_json,
    segmenter_to_json,
)
from bevstack.costs.macs import count_parameters
from bevstack.interop.public_weights import convert_weights
from bevstack.interop.segmentation import ROWS, kind_of
from bevstack.interop.segmentation_names import UPERNET_ROWS
from bevstack.models.segmentation.build import build_segmenter
from bevstack.models.segmentation.model import Segmenter
from bevstack.models.skeleton import skeleton
from tests import internimage_heads_oracle as oracle

# Parameters of the released models in millions (README of the released code).
MILLIONS = {"t": 59, "s": 80, "b": 128, "l": 256, "xl": 368, "h": 1120, "g": 3113}
CONFIG_OF_LIST = {
    **{
        f"UperNet_{size.upper()}": f"upernet_internimage_{size}_{side}_ade20k"
        for size, side in zip(
            ("t", "s", "b", "l", "xl", "h", "g"), (512, 512, 512, 640, 640, 896, 896), strict=True
        )
    },
    "UperNet_XL_cityscapes": "upernet_internimage_xl_512x1024_cityscapes",
    "SegFormer_XL_cityscapes": "segformer_internimage_xl_512x1024_cityscapes",
    "Mask2Former_H_ade20k": "mask2former_internimage_h_896_ade20k",
    "Mask2Former_H_cityscapes": "mask2former_internimage_h_1024x1024_cityscapes",
}
CLASSES = {
    "ade20k": ADE20K_CLASSES,
    "cityscapes": CITYSCAPES_CLASSES,
    "mapillary": CITYSCAPES_CLASSES,
    "cocostuff164k": COCO_STUFF_CLASSES,
    "cocostuff10k": COCO_STUFF_CLASSES,
    "context": CONTEXT_CLASSES,
    "nyu": NYU_CLASSES,
}


RELEASED = [name for name in packaged_configs(SEGMENTATION) if "nano" not in name]


@pytest.mark.parametrize("name", RELEASED)
def test_packaged_configuration_has_its_name_and_size_and_survives_json(name: str) -> None:
    config: SegmenterConfig = load_segmenter(name)
    assert config.name == name
    assert segmenter_from_json(segmenter_to_json(config)) == config
    assert config.class_names == CLASSES[name.rpartition("_")[2]]
    with skeleton():
        parameters = count_parameters(build_segmenter(config))
    if name.startswith("upernet"):
        assert round(parameters / 1e6) == MILLIONS[name.split("_")[2]]
    elif name.startswith("mask2former"):  # 1.31 and 1.09 thousand million
        assert round(parameters / 1e7) == (131 if config.head.channels == 1024 else 109)


@pytest.mark.parametrize(
    ("name", "rate", "decay", "clip", "crop"),
    [
        ("upernet_internimage_b_512_ade20k", 6e-5, 1.0, 1e9, (512, 512)),
        ("upernet_internimage_xl_640_ade20k", 2e-5, 0.94, 0.1, (640, 640)),
        ("upernet_internimage_h_896_ade20k", 2e-5, 0.95, 0.1, (896, 896)),
        ("segformer_internimage_l_512x1024_cityscapes", 2e-5, 0.94, 0.1, (512, 1024)),
    ],
)
def test_recipes_are_the_released_ones(
    name: str, rate: float, decay: float, clip: float, crop: tuple[int, int]
) -> None:
    config = load_segmenter(name)
    recipe, changes = config.training, config.label_augmentation
    assert (recipe.learning_rate, recipe.layer_decay, recipe.gradient_clip) == (rate, decay, clip)
    assert (recipe.num_steps, recipe.batch_size, recipe.schedule) == (160_000, 16, "linear")
    assert (recipe.warmup_steps, recipe.warmup_start, recipe.weight_decay) == (1500, 1e-6, 0.05)
    assert not recipe.decay_norms_and_biases and recipe.backbone_multiplier == 1.0
    assert changes.crop_px == crop and changes.resize == (0.5, 2.0)


@pytest.mark.parametrize(
    ("data", "rate", "steps", "clip", "batch"),
    [
        ("896_ade20k", 1e-5, 80_000, 0.1, 16),
        ("896_cocostuff164k", 2e-5, 80_000, 0.1, 16),
        ("512_cocostuff10k", 1e-5, 40_000, 1e9, 16),
        ("480_pascal_context", 2e-5, 40_000, 1e9, 16),
        ("480_nyu", 2e-5, 40_000, 1e9, 16),
        ("1024x1024_cityscapes", 1e-5, 80_000, 0.1, 16),
        ("896x896_mapillary", 2e-5, 80_000, 0.1, 32),
    ],
)
def test_recipes_of_mask2former_are_the_released_ones(
    data: str, rate: float, steps: int, clip: float, batch: int
) -> None:
    config = load_segmenter(f"mask2former_internimage_h_{data}")
    recipe, side = config.training, int(data.split("_")[0].split("x")[0])
    assert (recipe.learning_rate, recipe.num_steps, recipe.batch_size) == (rate, steps, batch)
    assert (recipe.gradient_clip, recipe.layer_decay, recipe.schedule) == (clip, 0.95, "linear")
    assert config.label_augmentation.crop_px == (side, side)
    if config.pictures.window_px != (0, 0):
        assert config.pictures.window_px == (side, side)
        assert config.pictures.window_step_px == (512, 512)


def test_classes_are_as_many_as_the_data_sets_have():
    assert len(set(ADE20K_CLASSES)) == 150 and ADE20K_CLASSES[0] == "wall"
    assert ADE20K_CLASSES[-1] == "flag" and ADE20K_CLASSES[136] == "traffic light"
    assert len(set(CITYSCAPES_CLASSES)) == 19
    assert len(set(COCO_STUFF_CLASSES)) == 171 and COCO_STUFF_CLASSES[80] == "banner"
    assert COCO_STUFF_CLASSES[-1] == "wood" and COCO_STUFF_CLASSES[128] == "pavement"
    assert len(set(CONTEXT_CLASSES)) == 59 and CONTEXT_CLASSES[36] == "person"
    assert len(set(NYU_CLASSES)) == 40 and NYU_CLASSES[30] == "person"


@pytest.mark.oracle(*(f"heads_keys_{name}" for name in CONFIG_OF_LIST))
@pytest.mark.parametrize("released", CONFIG_OF_LIST)
def test_names_of_the_heads_are_all_consumed_and_counts_are_equal(released: str) -> None:
    listed = oracle.key_list("head_keys_all")[released]
    config = load_segmenter(CONFIG_OF_LIST[released])
    with skeleton():
        model = build_segmenter(config)
        state = {key: torch.empty(shape) for key, shape in listed["head_keys"].items()}
    expected = model.state_dict()
    _, report = convert_weights(
        state, expected, ROWS[kind_of(config)], allow_missing=["backbone.*"]
    )
    assert {name.partition(".")[0] for name in report.missing} == {"backbone"}
    assert len(report.missing) == listed["num_backbone_keys"]
    assert len(expected) == listed["num_keys"]
    assert count_parameters(model) == listed["num_params"]


WHOLE_LISTS = ("UperNet_T", "UperNet_XL", "Mask2Former_H_ade20k")


@pytest.mark.oracle(*(f"heads_all_keys_{name}" for name in WHOLE_LISTS))
@pytest.mark.parametrize("released", WHOLE_LISTS)
def test_names_of_a_whole_file_are_all_consumed(released: str) -> None:
    listed = oracle.key_list(f"state_dict_keys_{released}")
    with skeleton():
        config = load_segmenter(CONFIG_OF_LIST[released])
        expected = build_segmenter(config).state_dict()
        state = {key: torch.empty(shape) for key, shape in listed["keys"].items()}
    _, report = convert_weights(state, expected, ROWS[kind_of(config)])
    assert not report.missing and not report.left_over


@pytest.mark.parametrize("name", oracle.cases("upernet_full_rule_weights"))
@torch.no_grad()
def test_full_size_heads_equal_the_stored_outputs(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    released = name.replace("upernet", "UperNet").removesuffix("_full")
    listed = oracle.key_list("head_keys_all")[released]["head_keys"]
    with skeleton():
        config = load_segmenter(CONFIG_OF_LIST[released])
        assert isinstance(config, SegmentationConfig)
        model = Segmenter(config).eval()
    state = oracle.ruled_state(case, listed.items())
    weights, _ = convert_weights(
        state, model.state_dict(), UPERNET_ROWS, allow_missing=["backbone.*"]
    )
    model.load_state_dict(weights, strict=False, assign=True)
    stages = oracle.ruled_inputs(case)
    # README beside the cases: 2e-4 on outputs up to about 30
    pooled = model.head.pool_top(stages[-1])[:, :16]
    oracle.assert_close("pooled", pooled, stored["psp_out_first16ch"], 2e-4)
    oracle.assert_close("logits", model.head(stages), stored["decode_logits"], 2e-4)
    assert model.auxiliary is not None
    oracle.assert_close("auxiliary", model.auxiliary(stages[2]), stored["aux_logits"], 2e-4)
