"""Losses of DINO and their gradients against stored numbers of the released code."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bevstack.interop.detection2d_names import DINO_ROWS
from bevstack.interop.public_weights import convert_weights
from bevstack.losses.dino import _truth as truth_of
from bevstack.losses.dino import dino_losses, match_all, set_losses
from bevstack.losses.focal import sigmoid_focal_loss
from tests import internimage_heads_oracle as oracle
from tests.models.detection2d.test_dino_oracle import batch_of, stored_dino, stored_draws


def named_losses(losses: dict[str, Any], layers: int) -> dict[str, float]:
    """Return the losses under released names."""
    named = {}
    for name, own in losses.items():
        noised = name.startswith("noised_")
        layer = name.removeprefix("noised_")
        last = layer == str(layers - 1)
        place = "" if last or layer == "proposals" else f"d{layer}."
        kind = "interm_" if layer == "proposals" else "dn_" if noised else ""
        for key, value in zip(("cls", "bbox", "iou"), own, strict=True):
            named[f"{place}{kind}loss_{key}"] = value.item()
    return named


@pytest.mark.parametrize("name", oracle.cases("dino", aspect="_training"))
def test_training_equals_the_stored_one(name: str) -> None:
    case, stored = oracle.manifest()[name], oracle.tensors(name)
    model, batch = stored_dino(name).train(), batch_of(case, stored)
    maps = [stored[key].clone().requires_grad_() for key in ("c3", "c4", "c5")]
    output = model(batch, maps, draws=stored_draws(stored))
    losses = set_losses(output, batch, model.config.dino)
    check_matches(output, batch, stored)
    oracle.check_losses(named_losses(losses, len(output.logits)), case["losses"], 1e-5)
    ours = dino_losses(output, batch, model.config.dino)
    assert abs(ours.total.item() - case["loss_total"]) <= 1e-5 * case["loss_total"]
    assert len(ours.terms) == len(case["losses"])
    ours.total.backward()
    _, report = convert_weights(oracle.stored_state(name), model.state_dict(), DINO_ROWS)
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    released = {theirs: gradients[own] for theirs, own in report.matched if own in gradients}
    oracle.check_gradients(released, case["grad_summary"])
    assert maps[0].grad is not None
    assert maps[2].grad is not None
    for key, got in (("grad_c3_ch0", maps[0].grad[:, :1]), ("grad_c5", maps[2].grad)):
        # Float32 noise of sums of hundreds of terms
        oracle.assert_close(key, got, stored[key], 1e-3 * float(stored[key].abs().max()))


def check_matches(output: Any, batch: Any, stored: dict[str, torch.Tensor]) -> None:
    """Check the assigned objects: prediction after prediction, image after image."""
    truth, start, row = truth_of(batch), output.noised.total, 0
    sets = [(output.proposal_logits, output.proposal_boxes)]
    sets += [(a[:, start:], b[:, start:]) for a, b in zip(output.logits, output.boxes, strict=True)]
    for logits, boxes in sets:
        for queries, objects in match_all(logits, boxes, truth):
            wanted = stored["assigned_gt_plus1"][row].long()
            got = torch.zeros_like(wanted)
            got[queries] = objects + 1
            assert torch.equal(got, wanted), row
            row += 1
    assert row == len(stored["assigned_gt_plus1"])


@pytest.mark.parametrize("name", oracle.cases("op", name="losses", aspect="_focal"))
def test_focal_loss_equals_the_stored_one(name: str) -> None:
    stored, case = oracle.tensors(name), oracle.manifest()[name]
    logits, labels = stored["focal_logits"], stored["focal_labels_5_is_background"]
    targets = torch.nn.functional.one_hot(labels, logits.shape[1] + 1)[:, :-1].float()
    loss = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0).sum()
    wanted = case["losses"]["focal"]
    assert abs(loss.item() / case["avg_factors"]["focal"] - wanted) <= 1e-5 * wanted


@pytest.mark.oracle("heads_dino_tiny_empty")
def test_images_without_objects_train_classes_alone() -> None:
    case, stored = oracle.manifest()["dino_tiny"], oracle.tensors("dino_tiny")
    empty = {"gt_boxes_0": torch.zeros(0, 4), "gt_labels_0": torch.zeros(0).long()}
    empty |= {key.replace("_0", "_1"): value for key, value in empty.items()}
    model, batch = stored_dino("dino_tiny").train(), batch_of(case, stored | empty)
    maps = [stored[key] for key in ("c3", "c4", "c5")]
    losses = dino_losses(model(batch, maps), batch, model.config.dino)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(v == 0 for k, v in losses.terms.items() if not k.startswith("class"))
    assert any(p.grad is not None and p.grad.any() for p in model.class_branches.parameters())
