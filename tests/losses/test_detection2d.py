"""Losses of 2D detectors against stored numbers: matches, samples, targets, losses, gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bevstack.losses import detection2d as module
from bevstack.losses.detection2d import (
    detection2d_losses,
    rpn_losses,
    stage_losses,
    stage_mask_targets,
)
from bevstack.models.detection2d.boxes import matched_giou
from bevstack.models.detection2d.model import RegionDetector, StageOutput, TrainingOutput
from bevstack.models.detection2d.rpn import Proposals
from bevstack.models.detection2d.sampling import (
    IGNORED,
    NEGATIVE,
    Samples,
    choose_at_random,
    match_boxes,
    sample_boxes,
)
from bevstack.types.pictures2d import PictureBatch
from tests import internimage_heads_oracle as oracle
from tests.models.detection2d.region_oracle import (
    spread_choice,
    stored_batch,
    stored_detector,
)

KINDS = ("mask", "cascade", "mask_empty_gt", "cascade_empty_gt")


@pytest.mark.parametrize("name", oracle.cases("op", name="boxes", aspect="_matches"))
@pytest.mark.parametrize(
    ("key", "positive", "negative", "best"),
    [("rpn", 0.7, 0.3, 0.3), ("rcnn", 0.5, 0.5, 0.5), ("c1", 0.6, 0.6, None)],
)
def test_matches_equal_the_stored_ones(
    name: str, key: str, positive: float, negative: float, best: float | None
) -> None:
    stored = oracle.tensors(name)
    got = match_boxes(
        stored["iou_boxes"],
        stored["iou_gt"],
        positive_iou=positive,
        negative_iou=negative,
        best_iou=best,
    )
    wanted = stored[f"assign_{key}_gt_plus1"]
    ours = torch.where(got == NEGATIVE, 0, torch.where(got == IGNORED, -1, got + 1))
    assert torch.equal(ours, wanted)


@pytest.mark.parametrize("name", oracle.cases("op", name="losses"))
def test_single_losses_equal_the_stored_ones(name: str) -> None:
    stored, case = oracle.tensors(name), oracle.manifest()[name]
    wanted, factors = case["losses"], case["avg_factors"]
    weight, codes = stored["reg_weight"], (stored["reg_pred"], stored["reg_target"])
    got = {
        f"smooth_l1_{text}": (module.box_distances(*codes, beta) * weight).sum()
        / factors["smooth_l1"]
        for text, beta in (("1", 1.0), ("1_9", 1 / 9))
    }
    got["l1"] = (module.box_distances(*codes, 0.0) * weight).sum() / factors["l1"]
    overlap = matched_giou(stored["giou_pred"], stored["giou_target"])
    got["giou_x10"] = 10 * ((1 - overlap) * weight.mean(1)).sum() / factors["giou"]
    for key, value in got.items():
        assert abs(float(value) - wanted[key]) <= 1e-5 * abs(wanted[key]), key
    rows = torch.arange(len(stored["mask_labels"]))
    own = stored["mask_logits"][rows, stored["mask_labels"]]
    masks = functional.binary_cross_entropy_with_logits(own, stored["mask_target"].float())
    assert abs(float(masks) - wanted["mask_bce"]) <= 1e-5


def stored_training(name: str) -> tuple[RegionDetector, dict[str, Tensor], PictureBatch]:
    """Return model, arrays and batch of a training case; of its base case where it has one."""
    case = oracle.manifest()[name]
    base = case.get("base", name)
    stored = {**oracle.tensors(base), **oracle.tensors(name)}
    batch = stored_batch(oracle.manifest()[base], stored)
    model = stored_detector(base)
    return model.train(), stored, batch


def run_training(
    model: RegionDetector, stored: Mapping[str, Tensor], batch: PictureBatch
) -> tuple[TrainingOutput, list[Tensor]]:
    """Return the output for the stored proposals and the backbone's maps with gradients."""
    maps = [stored[key].clone().requires_grad_() for key in ("c2", "c3", "c4", "c5")]
    pyramid = model.neck(maps)
    rpn = model.rpn(pyramid)
    proposals = [
        Proposals(rows[:, :4], rows[:, 4])
        for rows in (stored[f"train_proposals_{image}"] for image in range(batch.num_images))
    ]
    stages = model.sampled_stages(pyramid, proposals, batch, choose=spread_choice)
    return TrainingOutput(rpn, tuple(model.rpn.anchors(rpn)), stages), maps


def check_samples(stored: Mapping[str, Tensor], index: int, samples: Samples) -> None:
    assert torch.equal(samples.positive, stored[f"sample{index}_pos"]), index
    assert torch.equal(samples.negative, stored[f"sample{index}_neg"]), index
    assert torch.equal(samples.objects, stored[f"sample{index}_pos_gt"]), index


def use_stored_mask_targets(
    monkeypatch: pytest.MonkeyPatch, stored: Mapping[str, Tensor], output: TrainingOutput
) -> None:
    """Check the targets of masks, then use the stored ones: exact halves may differ."""
    wanted = {}
    for index, stage in enumerate(output.stages):
        key = f"mask_target_{index}"
        if key in stored and len(stored[key]):
            wanted[id(stage)] = stored[key].float()

    def stored_targets(stage: StageOutput, batch: PictureBatch, cells: int) -> Tensor:
        own = stage_mask_targets(stage, batch, cells)
        target = wanted[id(stage)]
        assert own.shape == target.shape
        assert (own != target).float().mean() <= 0.002  # README beside the cases
        return target

    monkeypatch.setattr(module, "stage_mask_targets", stored_targets)


def named_losses(
    output: TrainingOutput, batch: PictureBatch, model: RegionDetector
) -> tuple[dict[str, Any], Tensor]:
    """Return the losses under released names, and their sum."""
    config = model.config
    logits, codes = rpn_losses(output.rpn, output.anchors, batch, config.rpn, choose=spread_choice)
    named: dict[str, Any] = {
        "loss_rpn_cls": [x.item() for x in logits],
        "loss_rpn_bbox": [x.item() for x in codes],
    }
    total = torch.stack([*logits, *codes]).sum()
    several = len(output.stages) > 1
    for index, (stage, weight) in enumerate(zip(output.stages, config.roi.weights, strict=True)):
        losses = stage_losses(stage, batch, config.roi, index)
        prefix = f"s{index}." if several else ""
        for key, value in (
            ("loss_cls", losses.classes),
            ("loss_bbox", losses.boxes),
            ("loss_mask", losses.masks),
        ):
            named[prefix + key] = (weight * value).item()
            total = total + weight * value
        named[f"{prefix}acc"] = float(losses.accuracy)
    return named, total


def released_gradients(model: RegionDetector, name: str) -> dict[str, Tensor | None]:
    """Return the gradients by released names."""
    from bevstack.interop.detection2d_names import REGION_ROWS
    from bevstack.interop.public_weights import convert_weights

    case = oracle.manifest()[name]
    state = oracle.stored_state(case.get("base", name))
    _, report = convert_weights(state, model.state_dict(), REGION_ROWS)
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {published: ours[own] for published, own in report.matched if own in ours}


@pytest.mark.parametrize("name", oracle.cases(*KINDS, aspect="_training"))
def test_training_equals_the_stored_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = oracle.manifest()[name]
    model, stored, batch = stored_training(name)
    samples: list[Samples] = []
    original = module.sample_boxes

    def recorded(*args: Any, **options: Any) -> Samples:
        samples.append(original(*args, **options))
        return samples[-1]

    monkeypatch.setattr(module, "sample_boxes", recorded)
    output, maps = run_training(model, stored, batch)
    use_stored_mask_targets(monkeypatch, stored, output)
    named, total = named_losses(output, batch, model)
    everything = [*samples, *(s for stage in output.stages for s in stage.samples)]
    for index, sample in enumerate(everything):
        check_samples(stored, index, sample)
    assert f"sample{len(everything)}_pos" not in stored
    oracle.check_losses(named, case["losses"], 1e-4)
    assert abs(total.item() - case["loss_total"]) <= 1e-4 * case["loss_total"]
    ours = detection2d_losses(output, batch, model.config, choose=spread_choice)
    torch.testing.assert_close(ours.total, total)
    total.backward()
    oracle.check_gradients(released_gradients(model, name), case["grad_summary"])
    for key, gradient in zip(("grad_c4", "grad_c5"), maps[2:], strict=True):
        if key in stored and name == case.get("base", name):
            # A ReLU of a batch norm whose input rounds to the other side of zero moves Cascade's
            # gradient by 2e-3 of its norm; without one, both agree to 2e-7.
            error = torch.linalg.vector_norm(gradient.grad - stored[key])
            assert error <= 3e-3 * torch.linalg.vector_norm(stored[key])


def test_samples_depend_on_the_seed_alone() -> None:
    matches = torch.arange(-500, 40).clamp(min=NEGATIVE)

    def draw(seed: int) -> Samples:
        generator = torch.Generator().manual_seed(seed)
        return sample_boxes(
            matches,
            count=64,
            positive_share=0.25,
            generator=generator,
            choose=choose_at_random,
        )

    first, second, third = draw(3), draw(3), draw(4)
    assert all(map(torch.equal, first, second))
    assert not torch.equal(first.negative, third.negative)
    assert len(first.positive) == 16
    assert len(first.negative) == 48
    assert (matches[first.negative] == NEGATIVE).all()
    assert torch.equal(matches[first.positive], first.objects)
