"""InternImage against stored outputs of the released code and an exact float64 evaluation."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bevstack.config.internimage import classification_config, detection_config
from bevstack.interop.internimage_names import official_to_ours
from bevstack.models.backbones import dcnv3_layer
from bevstack.models.backbones.dcnv3_layer import DCNv3Layer
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.classification.internimage_heads import InternImageClassifier
from tests.models.backbones import internimage_oracle as oracle

# What one rounding a step costs in float64 over a whole network, relative to values of order 1.
FLOAT64 = 1e-11
# Float32 against exact numbers: the released code itself is within 1.4e-5 on the small models.
FLOAT32 = 5e-5


def tiny_model(name: str, dtype: torch.dtype) -> tuple[InternImage, InternImageClassifier]:
    case = oracle.case_of(name)
    stored = load_file(oracle.folder() / f"{name}_cls_state.safetensors")
    state = {
        key: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for key, tensor in oracle.translated(stored).items()
    }
    backbone, classifier = oracle.build(case["config"], case["num_classes"], state, case["salt"])
    return backbone.requires_grad_(), classifier


def stage_loss(stages: tuple[Tensor, ...], seed: int) -> Tensor:
    """Sum over stages of mean(stage * R), R random numbers of (seed * 7 + stage)."""
    loss = stages[0].new_zeros(())
    for index, stage in enumerate(stages):
        random = np.random.RandomState(seed * 7 + index)
        weights = torch.from_numpy(random.standard_normal(tuple(stage.shape)))
        loss = loss + (stage * weights.to(stage.dtype)).mean()
    return loss


def assert_close(name: str, got: Tensor, wanted: np.ndarray, atol: float) -> None:
    assert tuple(got.shape) == wanted.shape, name
    worst = np.abs(got.detach().double().numpy() - wanted).max()
    assert worst <= atol, f"{name}: off by {worst:.3g}, allowed {atol:.3g}"


def check_forward_and_input_gradient(name: str, dtype: torch.dtype, atol: float) -> None:
    case, stored = oracle.case_of(name), oracle.arrays_of(name)
    backbone, classifier = tiny_model(name, dtype)
    images = torch.from_numpy(stored["input"]).to(dtype).requires_grad_()
    stages = backbone(images)
    assert len(stages) == 4
    for index, stage in enumerate(stages):
        assert stage.is_contiguous()
        assert_close(f"stage{index}", stage, stored[f"stage{index}_exact64"], atol)
    with torch.no_grad():
        assert_close("logits", classifier(images), stored["logits_exact64"], atol)
    loss = stage_loss(stages, case["seed"])
    assert_close("loss", loss, stored["loss_exact64"], atol)
    loss.backward()
    # Gradients are of order 1e-2; the README beside the cases allows 2e-5 of the largest in
    # float32, and the float64 tolerance is relative in the same way.
    largest = np.abs(stored["grad_input_exact64"]).max()
    relative = FLOAT64 if dtype == torch.float64 else 2e-5
    assert_close("grad_input", images.grad, stored["grad_input_exact64"], relative * largest)
    check_parameter_gradients(backbone, case, dtype)


def check_parameter_gradients(backbone: InternImage, case: dict[str, Any], dtype: Any) -> None:
    parameters = dict(backbone.named_parameters())
    wanted = case["param_grads(norm,sum,index_weighted_sum/numel)"]
    assert {official_to_ours(key) for key in wanted} == {f"backbone.{key}" for key in parameters}
    for key, numbers in wanted.items():
        parameter = parameters[official_to_ours(key).removeprefix("backbone.")]
        gradient = parameter.grad.double().flatten()
        index = torch.arange(gradient.numel(), dtype=torch.float64)
        got = (gradient.norm(), gradient.sum(), (gradient * index).sum() / gradient.numel())
        # Sums of n rounding errors; sqrt(n) * norm bounds a sum of n terms of that norm. A
        # gradient that is zero in exact arithmetic (biases before a norm) leaves only noise.
        scale = numbers[0] * gradient.numel() ** 0.5 + 1e-3
        relative = FLOAT64 if dtype == torch.float64 else 2e-5
        for ours, theirs in zip(got, numbers, strict=True):
            assert abs(float(ours) - theirs) <= relative * scale, key


def tiny_parameters() -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.oracle(name)) for name in oracle.TINY_CASES]


@pytest.mark.parametrize("name", tiny_parameters())
def test_small_model_in_float32_equals_stored_outputs_and_gradients(name: str) -> None:
    check_forward_and_input_gradient(name, torch.float32, FLOAT32)


@pytest.mark.parametrize("name", tiny_parameters())
def test_small_model_in_float64_equals_exact_outputs_and_gradients(name: str) -> None:
    check_forward_and_input_gradient(name, torch.float64, FLOAT64)


@pytest.mark.oracle("tiny_h_like_ch16", "tiny_xl_like_ch16")
@pytest.mark.parametrize("name", ["tiny_h_like_ch16", "tiny_xl_like_ch16"])
def test_stored_weights_are_the_rule_weights_under_our_names(name: str) -> None:
    case = oracle.case_of(name)
    stored = oracle.translated(load_file(oracle.folder() / f"{name}_cls_state.safetensors"))
    with torch.device("meta"):
        model = InternImageClassifier(oracle.config_of(case["config"]), case["num_classes"])
    by_rule = oracle.rule_state(model, case["salt"])
    assert by_rule.keys() == stored.keys()
    for key, tensor in stored.items():
        assert torch.equal(tensor, by_rule[key]), key


def layer_of(name: str, dtype: torch.dtype) -> tuple[DCNv3Layer, dict[str, np.ndarray]]:
    case, stored = oracle.case_of(name), oracle.arrays_of(name)
    config = oracle.config_of(
        {key: case[key] for key in ("offset_scale", "center_feature_scale", "remove_center")}
        | {"dw_kernel_size": case["dw_kernel_size"]}
    )
    layer = DCNv3Layer(case["channels"], case["group"], config=config).to(dtype)
    prefix = "levels.0.blocks.0.dcn."
    state = {
        official_to_ours(prefix + key.removeprefix("param/")).removeprefix(f"backbone.{prefix}"):
            torch.from_numpy(value).to(dtype)
        for key, value in stored.items()
        if key.startswith("param/")
    }  # fmt: skip
    layer.load_state_dict(state, strict=True)
    return layer, stored


# Float32 against exact numbers: the released layer is within 2.3e-6.
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, FLOAT64)])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.oracle(n)) for n in oracle.MODULE_CASES]
)
def test_layer_equals_stored_output_at_every_step(
    name: str, dtype: torch.dtype, atol: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, stored = layer_of(name, dtype)
    steps: dict[str, Tensor] = {}
    operator = dcnv3_layer.dcnv3

    def recording(value: Tensor, offset: Tensor, mask: Tensor, **options: Any) -> Tensor:
        steps["after_input_proj"], steps["offset"] = value, offset
        points = 9 - int(options["remove_center"])
        steps["mask_softmaxed"] = mask.unflatten(-1, (-1, points)).softmax(-1).flatten(-2)
        steps["core_out"] = operator(value, offset, mask, **options)
        return steps["core_out"]

    monkeypatch.setattr(dcnv3_layer, "dcnv3", recording)
    layer.offset.register_forward_pre_hook(lambda _, x: steps.update(dw_conv_out=x[0]))
    steps["output"] = layer(torch.from_numpy(stored["input"]).to(dtype))
    wanted = {key.removesuffix("_exact64") for key in stored if key.endswith("_exact64")}
    assert steps.keys() == wanted
    for step, tensor in steps.items():
        assert_close(step, tensor, stored[f"{step}_exact64"], atol)


# README beside the cases: the stored stages of the full models are the released float32 ones,
# themselves up to 2.9e-5 (XL) off the exact values; logits are exact.
@pytest.mark.parametrize(
    ("name", "atol"),
    [
        pytest.param(name, atol, marks=pytest.mark.oracle(name))
        for name, atol in zip(oracle.FULL_CASES, (5e-5, 5e-5, 2e-4), strict=True)
    ],
)
def test_full_size_model_equals_stored_outputs(name: str, atol: float) -> None:
    case, stored = oracle.case_of(name), oracle.arrays_of(name)
    backbone, classifier = oracle.build(case["config"], case["num_classes"], None, case["salt"])
    images = oracle.rule_input(case)
    with torch.inference_mode():
        stages = backbone(images)
        logits = classifier.head(stages[-1:])
    for index, stage in enumerate(stages):
        assert_close(f"stage{index}", stage, stored[f"stage{index}_f32"], atol)
    assert_close("logits", logits, stored["logits_exact64"], atol)


VARIANTS = [
    pytest.param(v, marks=pytest.mark.oracle(f"state_dict_keys_{v}"))
    for v in ("T", "S", "B", "L", "XL")
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_names_order_and_shapes_equal_the_released_lists(variant: str) -> None:
    text = (oracle.folder() / f"state_dict_keys_{variant}.json").read_text(encoding="utf-8")
    lists = json.loads(text)
    name = f"internimage_{variant.lower()}"
    with torch.device("meta"):
        models = {
            "classification": InternImageClassifier(classification_config(name)),
            "detection": InternImage(detection_config(name)),
        }
    for setting, model in models.items():
        ours = [(key, list(tensor.shape)) for key, tensor in model.state_dict().items()]
        prefix = "backbone." if setting == "detection" else ""
        wanted = [(official_to_ours(key), shape) for key, shape in lists[setting]["keys"].items()]
        assert [(prefix + key, shape) for key, shape in ours] == wanted
        assert sum(p.numel() for p in model.parameters()) == lists[setting]["num_params"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_settings_of_a_size_equal_the_released_configurations(variant: str) -> None:
    text = (oracle.folder() / f"state_dict_keys_{variant}.json").read_text(encoding="utf-8")
    lists = json.loads(text)
    name = f"internimage_{variant.lower()}"
    assert classification_config(name) == oracle.config_of(lists["classification"]["config"])
    assert detection_config(name) == oracle.config_of(lists["detection"]["config"])
