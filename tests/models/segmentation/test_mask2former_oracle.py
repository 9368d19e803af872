"""Our Mask2Former against the released one: every step, labels, losses, gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from bevstack.config.segmenters import load_segmenter
from bevstack.interop.public_weights import convert_weights
from bevstack.interop.segmentation_names import MASK2FORMER_ROWS
from bevstack.losses.mask_segmentation import (
    Uniform,
    mask_segmentation_losses,
    match_masks,
    split_labels,
)
from bevstack.models.segmentation.inference import View, label_probabilities
from bevstack.models.segmentation.mask_decoder import MaskPrediction
from bevstack.models.segmentation.mask_model import MaskSegmenter, class_scores
from bevstack.models.skeleton import skeleton
from tests import internimage_heads_oracle as oracle
from tests.models.segmentation.mask_oracle import STAGES, stored_model

ATOL, SEMANTIC_ATOL = 3e-4, 1e-4  # README beside the cases


@pytest.mark.parametrize("name", oracle.cases("mask2former", aspect="_outputs"))
@torch.no_grad()
def test_every_step_from_stored_stages_equals_the_stored_one(name: str) -> None:
    stored = oracle.tensors(name)
    model = stored_model(oracle.manifest()[name], oracle.stored_state(name))
    check_steps(model, [stored[key] for key in STAGES], stored, factor=1)


@pytest.mark.parametrize("name", oracle.cases("mask2former", aspect="_from_image"))
@torch.no_grad()
def test_every_step_from_the_image_equals_the_stored_one(name: str) -> None:
    stored = oracle.tensors(name)
    model = stored_model(oracle.manifest()[name], oracle.stored_state(name))
    stages = model.backbone(oracle.normalised_images(stored["image_u8"].numpy()))
    for key, got in zip(STAGES, stages, strict=True):
        oracle.assert_close(key, got, stored[key], 5e-5)
    check_steps(model, stages, stored, factor=3)


def check_steps(
    model: MaskSegmenter, stages: Sequence[Tensor], stored: Mapping[str, Tensor], factor: float
) -> None:
    maps = model.pixel_decoder(stages)
    atol = factor * ATOL
    oracle.assert_close("mask_features", maps.mask_features, stored["mask_features"], atol)
    for index, level in enumerate(maps.levels):
        oracle.assert_close(f"level {index}", level, stored[f"multi_scale_{index}"], atol)
    predictions = model.train()(torch.zeros(0), stages)  # training mode changes no number here
    assert len(predictions) == model.config.head.decoder_layers + 1
    for index, (logits, masks) in enumerate(predictions):
        oracle.assert_close(f"class {index}", logits, stored[f"cls_{index}"], atol)
        wanted = stored[f"mask_{index}"]
        every = masks.shape[1] // wanted.shape[1]
        oracle.assert_close(f"mask {index}", masks[:, ::every], wanted, atol)
    (last,) = model.eval()(torch.zeros(0), stages)
    assert torch.equal(last.masks, predictions[-1].masks)
    scores = class_scores(last)
    oracle.assert_close("scores", scores, stored["semantic_quarter"], factor * SEMANTIC_ATOL)


@pytest.mark.parametrize("name", oracle.cases("mask2former", aspect="_inference"))
@torch.no_grad()
def test_probabilities_and_labels_at_the_original_size_equal_the_stored_ones(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    model = stored_model(case, oracle.stored_state(name))
    images = oracle.normalised_images(stored["image_u8"].numpy())
    found = label_probabilities(model.pixel_logits, [View(images)], tuple(case["ori_shape"]))
    count = len(stored["whole_prob"])
    oracle.assert_close("whole", found[:count], stored["whole_prob"], 3 * SEMANTIC_ATOL)
    differing = (found.argmax(1) != stored["whole_pred"]).flatten(1).sum(1)
    assert int(differing.max()) <= 5  # pixels, as for UperNet


def stored_draws(stored: Mapping[str, Tensor]) -> Uniform:
    """Return the stored random numbers in their order."""
    keys = iter(sorted(key for key in stored if key.startswith("draw_")))

    def take(shape: tuple[int, ...]) -> Tensor:
        found = stored[next(keys)]
        assert tuple(found.shape) == shape
        return found

    return take


@pytest.mark.parametrize("name", oracle.cases("mask2former", aspect="_training"))
def test_matches_losses_and_gradients_equal_the_stored_ones(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    model = stored_model(case, oracle.stored_state(name)).train()
    stages = [stored[key].requires_grad_() for key in STAGES]
    labels = stored["label"].long()
    truth = split_labels(labels)
    for index, own in enumerate(truth):
        assert torch.equal(own.labels, stored[f"gt_labels_{index}"])
    predictions = model(torch.zeros(0), stages)
    check_matches(predictions, truth, model, stored)
    losses = mask_segmentation_losses(predictions, labels, model.config.head, stored_draws(stored))
    oracle.check_losses(released_losses(losses.terms), case["losses"], 1e-5)
    oracle.check_losses({"total": losses.total.detach()}, {"total": case["loss_total"]}, 1e-5)
    losses.total.backward()
    ours = {key: parameter.grad for key, parameter in model.named_parameters()}
    state = {key: torch.zeros(0) for key in case["grad_summary"]}
    expected = {key: torch.zeros(0) for key in ours if not key.startswith("backbone.")}
    _, report = convert_weights(state, expected, MASK2FORMER_ROWS)
    released = {published: ours[own] for published, own in report.matched}
    oracle.check_gradients(released, case["grad_summary"])
    gradients = [stage.grad for stage in stages]
    scale = max(float(gradient.abs().max()) for gradient in gradients if gradient is not None)
    oracle.assert_close("c2", gradients[0][:, :1], stored["grad_c2_ch0"], 1e-3 * scale)
    oracle.assert_close("c4", gradients[2], stored["grad_c4"], 1e-3 * scale)
    oracle.assert_close("c5", gradients[3], stored["grad_c5"], 1e-3 * scale)


def check_matches(
    predictions: Sequence[MaskPrediction], truth: Any, model: MaskSegmenter, stored: Any
) -> None:
    draws = stored_draws(stored)
    for index, prediction in enumerate(predictions):
        matches = match_masks(prediction, truth, model.config.head, draws)
        for image, (queries, rows) in enumerate(matches):
            wanted = stored["assigned_gt_plus1"][index * len(truth) + image]
            found = torch.zeros(len(wanted), dtype=wanted.dtype)
            found[queries] = (rows + 1).to(wanted.dtype)
            assert torch.equal(found, wanted), (index, image)
        matched = sum(len(queries) for queries, _ in matches)
        points = model.config.head.sampled_points
        draws((matched, 3 * points, 2)), draws((matched, points // 4, 2))  # of the losses


def released_losses(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return losses by their released names: d0, d1, ... and the last without a number."""
    names = {"class": "loss_cls", "mask": "loss_mask", "dice": "loss_dice"}
    last = max(int(term.partition("_")[2]) for term in terms)
    released = {}
    for term, value in terms.items():
        kind, _, index = term.partition("_")
        released[names[kind] if int(index) == last else f"d{index}.{names[kind]}"] = value
    return released


@pytest.mark.parametrize("name", oracle.cases("mask2former_full_rule_weights"))
@torch.no_grad()
def test_full_size_head_equals_the_stored_outputs(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    listed = oracle.key_list("head_keys_all")["Mask2Former_H_ade20k"]["head_keys"]
    with skeleton():
        model = MaskSegmenter(load_segmenter("mask2former_internimage_h_896_ade20k"))
    state = oracle.ruled_state(case, listed.items())
    weights, _ = convert_weights(
        state, model.state_dict(), MASK2FORMER_ROWS, allow_missing=["backbone.*"]
    )
    model.load_state_dict(weights, strict=False, assign=True)
    stages = oracle.ruled_inputs(case)
    # README beside the cases: 2e-4 on outputs up to about 30
    maps = model.pixel_decoder(stages)
    features = stored["mask_features_first16ch"]
    oracle.assert_close("mask_features", maps.mask_features[:, :16], features, 2e-4)
    for index, level in enumerate(maps.levels):
        oracle.assert_close("level", level[:, :16], stored[f"multi_scale_{index}_first16ch"], 2e-4)
    predictions = model.train()(torch.zeros(0), stages)
    for index, key in ((0, "first"), (-1, "last")):
        oracle.assert_close(key, predictions[index].logits, stored[f"cls_{key}"], 2e-4)
        masks = predictions[index].masks[:, ::8]
        oracle.assert_close(key, masks, stored[f"mask_{key}_every8"], 2e-4)
    oracle.assert_close("scores", class_scores(predictions[-1]), stored["semantic"], 2e-4)
