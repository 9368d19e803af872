"""Our UperNet against the released one: outputs, three ways of inference, losses, gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from bevstack.config.segmentation import LabelHeadConfig, SegmentationConfig
from bevstack.interop.public_weights import convert_weights
from bevstack.interop.segmentation_names import UPERNET_ROWS
from bevstack.losses.segmentation import pixel_loss, segmentation_losses
from bevstack.models.segmentation.heads import resize_map
from bevstack.models.segmentation.inference import View, label_probabilities, slide_logits
from bevstack.models.segmentation.model import Segmenter
from bevstack.models.skeleton import skeleton
from tests import internimage_heads_oracle as oracle
from tests.models.backbones.internimage_oracle import config_of

IGNORED = ("type", "core_op", "init_cfg", "with_cp")  # keywords that do not change the model
ATOL = 1e-5  # README beside the cases
PIXELS = 5  # labels that may differ, of the same README


def stored_segmenter(case: Mapping[str, Any], state: Mapping[str, Tensor]) -> Segmenter:
    released = case["model_config"]
    flags = {key: value for key, value in released["backbone"].items() if key not in IGNORED}
    head, auxiliary = released["decode_head"], released["auxiliary_head"]
    config = SegmentationConfig(
        name="stored",
        class_names=tuple(f"class {index}" for index in range(case["num_classes"])),
        num_outputs=case["num_classes"],
        backbone=config_of(flags),
        head=LabelHeadConfig(
            channels=head["channels"],
            pool_cells=tuple(head["pool_scales"]),
            dropout=0.0,  # "training" of the manifest
            auxiliary_channels=auxiliary["channels"],
            auxiliary_weight=auxiliary["loss_decode"]["loss_weight"],
        ),
    )
    with skeleton():
        model = Segmenter(config)
    converted, _ = convert_weights(state, model.state_dict(), UPERNET_ROWS)
    model.load_state_dict(converted, assign=True)
    return model.eval().requires_grad_()


@pytest.mark.parametrize("name", oracle.cases("upernet", aspect="_outputs"))
@torch.no_grad()
def test_outputs_from_stored_stages_and_from_the_image_equal_the_stored_ones(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    model = stored_segmenter(case, oracle.stored_state(name))
    images = oracle.normalised_images(stored["image_u8"].numpy())
    stages = [stored[key] for key in ("c2", "c3", "c4", "c5")]
    oracle.assert_close("pooled", model.head.pool_top(stages[-1]), stored["psp_out"], ATOL)
    first = stored["fpn_bottleneck_out"].shape[1]  # channels that are stored
    fused = model.head.fuse(stages)[:, :first]
    oracle.assert_close("fused", fused, stored["fpn_bottleneck_out"], ATOL)
    check_logits(model, images, stages, stored, ATOL)
    own = model.backbone(images)
    for key, got in zip(("c2", "c3", "c4", "c5"), own, strict=True):
        oracle.assert_close(key, got, stored[key], 5e-5)
    check_logits(model, images, own, stored, 3 * ATOL)


def check_logits(
    model: Segmenter, images: Tensor, stages: Any, stored: Mapping[str, Tensor], atol: float
) -> None:
    oracle.assert_close("logits", model(images, stages).logits, stored["decode_logits"], atol)
    assert model(images, stages).auxiliary is None  # in training alone
    assert model.auxiliary is not None
    oracle.assert_close("auxiliary", model.auxiliary(stages[2]), stored["aux_logits"], atol)


@pytest.mark.parametrize("name", oracle.cases("upernet", aspect="_inference"))
@torch.no_grad()
def test_whole_pictures_windows_and_views_give_the_stored_probabilities(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    model = stored_segmenter(case, oracle.stored_state(name))
    images = oracle.normalised_images(stored["image_u8"].numpy())
    size, window = tuple(case["ori_shape"]), case["slide"]
    windows = {"window_px": tuple(window["crop_size"]), "step_px": tuple(window["stride"])}
    whole = label_probabilities(model.pixel_logits, [View(images)], size)
    check_labels(whole, stored, "whole")
    slid = label_probabilities(model.pixel_logits, [View(images)], size, **windows)
    assert_labels(slid, stored["slide_pred"])
    plain = slide_logits(model.pixel_logits, images, **windows).softmax(1)
    count = len(stored["slide_prob_norescale"])
    oracle.assert_close("windows", plain[:count], stored["slide_prob_norescale"], 3 * ATOL)
    height, width = images.shape[-2:]
    larger = resize_map(images, (height + 32, width + 32))
    pictures = [images[:1], larger[:1]]
    views = [View(picture, mirrored) for picture in pictures for mirrored in (False, True)]
    mean = label_probabilities(model.pixel_logits, views, size)
    oracle.assert_close("views", mean, stored["tta_prob"], 3 * ATOL)
    assert_labels(mean, stored["tta_pred"][None])


def check_labels(probabilities: Tensor, stored: Mapping[str, Tensor], kind: str) -> None:
    wanted = stored[f"{kind}_prob"]
    oracle.assert_close(kind, probabilities[: len(wanted)], wanted, 3 * ATOL)
    assert_labels(probabilities, stored[f"{kind}_pred"])


def assert_labels(probabilities: Tensor, wanted: Tensor) -> None:
    differing = (probabilities.argmax(1) != wanted).flatten(1).sum(1)
    assert int(differing.max()) <= PIXELS


@pytest.mark.parametrize("name", oracle.cases("upernet", aspect="_training"))
def test_losses_gradients_and_statistics_of_a_step_equal_the_stored_ones(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    model = stored_segmenter(case, oracle.stored_state(name)).train()
    stages = [stored[key].requires_grad_() for key in ("c2", "c3", "c4", "c5")]
    labels = stored["label"][:, 0].long()
    weight = model.config.head.auxiliary_weight
    output = model(torch.zeros(0), stages)
    assert output.auxiliary is not None
    losses = segmentation_losses(output, labels, auxiliary_weight=weight)
    head, auxiliary = (pixel_loss(logits, labels) for logits in output)
    got = {
        "decode.loss_ce": losses.terms["class"],
        "decode.acc_seg": head.accuracy,
        "aux.loss_ce": losses.terms["auxiliary"],
        "aux.acc_seg": auxiliary.accuracy,
    }
    oracle.check_losses(got, case["losses"], 1e-5)
    oracle.check_losses({"total": losses.total.detach()}, {"total": case["loss_total"]}, 1e-5)
    losses.total.backward()
    ours = {key: parameter.grad for key, parameter in model.named_parameters()}
    oracle.check_gradients(released_gradients(model, ours, case), case["grad_summary"])
    gradients = [stage.grad for stage in stages]
    scale = max(float(gradient.abs().max()) for gradient in gradients if gradient is not None)
    oracle.assert_close("c2", gradients[0][:, :1], stored["grad_c2_ch0"], 1e-3 * scale)
    oracle.assert_close("c4", gradients[2], stored["grad_c4"], 1e-3 * scale)
    oracle.assert_close("c5", gradients[3], stored["grad_c5"], 1e-3 * scale)
    check_statistics(model, stored)


def check_statistics(model: Segmenter, stored: Mapping[str, Tensor]) -> None:
    assert model.auxiliary is not None
    norms = {
        "decode_head.psp_modules.0.1.bn": model.head.pooled[0].norm,
        "auxiliary_head.convs.0.bn": model.auxiliary.conv.norm,
    }
    for key, norm in norms.items():
        for statistic in ("running_mean", "running_var"):
            wanted = stored[f"after_step/{key}.{statistic}"]
            oracle.assert_close(key, getattr(norm, statistic), wanted, ATOL)


def released_gradients(
    model: Segmenter, ours: Mapping[str, Tensor | None], case: Mapping[str, Any]
) -> dict[str, Tensor | None]:
    """Return the gradients of the parameters of a case by their released names."""
    state = {key: torch.zeros(0) for key in case["grad_summary"]}
    expected = {
        key: torch.zeros(0)
        for key, _ in model.named_parameters()
        if not key.startswith("backbone.")
    }
    _, report = convert_weights(state, expected, UPERNET_ROWS)
    return {published: ours[own] for published, own in report.matched}
