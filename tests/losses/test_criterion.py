from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from bevstack.config import LossConfig
from bevstack.geometry import BEVGrid
from bevstack.losses import Criterion
from bevstack.models.detection3d.box_code import DecoderOutput, encode
from bevstack.types import Annotations
from tests.losses.published_losses import EVERYWHERE, read_losses
from tests.losses.test_matcher import CountWaits, naive_cost, random_output
from tests.models.bevformer_oracle import assert_close, legacy_codes
from tests.models.small_models import make_annotations

GRID = BEVGrid()
CASES = ("match_loss_plain", "match_loss_plain_b2")


@pytest.mark.parametrize("name", [pytest.param(c, marks=pytest.mark.oracle(c)) for c in CASES])
def test_losses_and_gradients_match_the_published_code(name: str) -> None:
    stored = read_losses(name)
    losses = Criterion(stored.config, official_parity=True)(
        stored.output, stored.annotations, EVERYWHERE
    )
    expected, tolerance = stored.case.outputs, stored.case.tolerance
    for layer, prefix in enumerate(("d0.", "d1.", "")):
        for ours, theirs in (("class", "loss_cls"), ("box", "loss_bbox")):
            value = expected[f"loss.{prefix}{theirs}"].reshape(())
            assert_close(losses.terms[f"{ours}_{layer}"], value, tolerance)
    assert_close(losses.total, expected["total"].reshape(()), tolerance)
    losses.total.backward()
    assert_close(stored.output.logits.grad, expected["grad_cls"], tolerance)
    # the gradient of a code has the code's swaps and signs
    assert_close(legacy_codes(stored.output.codes.grad), expected["grad_box"], tolerance)


def naive_losses(output: DecoderOutput, annotations: list[Annotations], layer: int):
    """Return the (class, box) loss of one layer by loops over samples and queries."""
    weights = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2)
    by_class = by_box = 0.0
    matched = 0
    for b, true in enumerate(annotations):
        codes = encode(true.boxes)
        queries = output.logits.shape[2]
        cost = torch.tensor(
            [
                [
                    naive_cost(output, layer, b, q, codes[a], int(true.labels[a]))
                    for a in range(len(true))
                ]
                for q in range(queries)
            ]
        ).view(queries, len(true))
        target_of = dict(zip(*(i.tolist() for i in linear_sum_assignment(cost)), strict=True))
        matched += len(target_of)
        for q in range(queries):
            label = int(true.labels[target_of[q]]) if q in target_of else None
            for k in range(output.logits.shape[3]):
                p = 1 / (1 + math.exp(-float(output.logits[layer, b, q, k])))
                if k == label:
                    by_class -= 0.25 * (1 - p) ** 2 * math.log(p)
                else:
                    by_class -= 0.75 * p**2 * math.log(1 - p)
            if q in target_of:
                for i, weight in enumerate(weights):
                    d = abs(float(output.codes[layer, b, q, i] - codes[target_of[q], i]))
                    if not math.isnan(d):
                        by_box += weight * (d * d / 2 if d < 1 else d - 0.5)
    return 2 * by_class / max(matched, 1), 0.75 * by_box / max(matched, 1)


@pytest.mark.parametrize("counts", [(), (3,), (2, 0), (4, 1, 7), (0,)])
def test_losses_equal_loops_over_samples_queries_and_codes(counts: tuple[int, ...]) -> None:
    output = random_output(2, len(counts), 5, 4, seed=len(counts))
    annotations = [make_annotations(n, 4, seed=n, spread_m=3.0) for n in counts]
    losses = Criterion(LossConfig())(output, annotations, GRID)
    total = 0.0
    for layer in range(2):
        by_class, by_box = naive_losses(output, annotations, layer)
        assert float(losses.terms[f"class_{layer}"]) == pytest.approx(by_class, rel=1e-5)
        assert float(losses.terms[f"box_{layer}"]) == pytest.approx(by_box, rel=1e-5)
        total += by_class + by_box
    assert float(losses.total) == pytest.approx(total, rel=1e-5)
    assert list(losses.terms) == ["class_0", "class_1", "box_0", "box_1"]


def leaf_output(*, seed: int = 0) -> DecoderOutput:
    output = random_output(2, 2, 5, 4, seed=seed)
    return DecoderOutput(output.logits.requires_grad_(), output.codes.requires_grad_())


def test_no_true_box_trains_every_query_as_background() -> None:
    output = leaf_output()
    losses = Criterion(LossConfig())(output, [Annotations.empty()] * 2, GRID)
    losses.total.backward()
    assert float(losses.terms["box_0"]) == 0
    assert (output.logits.grad > 0).all()  # every logit is pushed down
    assert output.codes.grad is None or not output.codes.grad.any()


def test_inactive_queries_add_no_loss_and_take_no_gradient() -> None:
    active = torch.tensor(((1, 0, 1, 1, 0), (0, 1, 1, 1, 1))).bool()
    annotations = [make_annotations(4, 4, spread_m=3.0), make_annotations(2, 4, seed=1)]
    output = replace(leaf_output(), active=active)
    losses = Criterion(LossConfig())(output, annotations, GRID)
    losses.total.backward()
    assert not output.logits.grad[:, ~active].any() and not output.codes.grad[:, ~active].any()
    assert output.logits.grad[:, active].all()
    # each sample without its inactive queries; 3 of the 5 matches are the first sample's
    total = 0.0
    for b, matched in enumerate((3, 2)):
        rows = active[b]
        alone = DecoderOutput(output.logits[:, b : b + 1, rows], output.codes[:, b : b + 1, rows])
        part = Criterion(LossConfig())(alone, annotations[b : b + 1], GRID).total
        total += float(part.detach()) * matched / 5
    assert float(losses.total.detach()) == pytest.approx(total, rel=1e-5)


def test_a_whole_loss_waits_for_the_device_once(monkeypatch) -> None:
    copies = []
    to_host = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: copies.append(t.shape) or to_host(t))
    output = replace(random_output(3, 2, 12, 4), num_groups=2)
    with CountWaits() as counted:
        losses = Criterion(LossConfig())(output, unknown_velocity(), GRID)
    assert losses.total > 0
    assert len(copies) == 1 and counted.waits == []


def unknown_velocity() -> list[Annotations]:
    annotations = make_annotations(3, 4, spread_m=3.0)
    velocity = annotations.boxes.velocity.clone()
    velocity[1] = math.nan
    return [replace(annotations, boxes=replace(annotations.boxes, velocity=velocity))] * 2


def test_unknown_velocity_adds_no_loss_while_the_box_does() -> None:
    output, annotations = leaf_output(), unknown_velocity()
    losses = Criterion(LossConfig())(output, annotations, GRID)
    by_class, by_box = naive_losses(output, annotations, 1)
    assert float(losses.terms["class_1"]) == pytest.approx(by_class, rel=1e-5)
    assert float(losses.terms["box_1"]) == pytest.approx(by_box, rel=1e-5)
    losses.total.backward()
    assert output.codes.grad.isfinite().all()
    rows = output.codes.grad[1, 0].abs() > 0
    assert sorted(rows.sum(-1).tolist()) == [0, 0, 8, 10, 10]


def test_official_parity_drops_the_whole_box_of_an_unknown_velocity() -> None:
    output = leaf_output()
    losses = Criterion(LossConfig(), official_parity=True)(output, unknown_velocity(), GRID)
    losses.total.backward()
    rows = output.codes.grad[1, 0].abs() > 0
    assert sorted(rows.sum(-1).tolist()) == [0, 0, 0, 10, 10]


def test_official_parity_takes_a_loss_that_is_not_finite_as_zero() -> None:
    output = random_output(2, 1, 5, 4)
    output.codes[0, 0, :, 9] = math.nan  # velocity: not part of the matching
    annotations = [make_annotations(3, 4, spread_m=3.0)]
    plain = Criterion(LossConfig())(output, annotations, GRID)
    assert math.isnan(plain.total)
    parity = Criterion(LossConfig(), official_parity=True)(output, annotations, GRID)
    assert parity.terms["box_0"] == 0 and parity.terms["box_1"] > 0


def test_terms_sum_to_the_total_and_carry_no_gradient() -> None:
    losses = Criterion(LossConfig())(leaf_output(), unknown_velocity(), GRID)
    assert losses.total.requires_grad
    assert not any(term.requires_grad for term in losses.terms.values())
    torch.testing.assert_close(sum(losses.terms.values()), losses.total.detach())


def test_half_precision_logits_are_scored_in_float32() -> None:
    output = random_output(1, 1, 5, 4)
    annotations = [make_annotations(3, 4, spread_m=3.0)]
    half = DecoderOutput(output.logits.bfloat16(), output.codes)
    rounded = DecoderOutput(output.logits.bfloat16().float(), output.codes)
    got = Criterion(LossConfig())(half, annotations, GRID).total
    assert got.dtype == torch.float32
    assert got == Criterion(LossConfig())(rounded, annotations, GRID).total


def test_losses_are_divided_by_the_mean_number_of_matches_over_processes(monkeypatch) -> None:
    output, annotations = random_output(1, 1, 5, 4), [make_annotations(3, 4, spread_m=3.0)]
    alone = Criterion(LossConfig())(output, annotations, GRID)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    # the other process matched nine boxes: (3 + 9) / 2 = 6
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: value.add_(9))
    two = Criterion(LossConfig())(output, annotations, GRID)
    torch.testing.assert_close(two.total, alone.total * 3 / 6)


def test_wrong_annotations_are_refused() -> None:
    output = random_output(1, 2, 5, 4)
    with pytest.raises(
        ValueError, match=r"annotations must hold one entry per sample \(2\); got 1"
    ):
        Criterion(LossConfig())(output, [Annotations.empty()], GRID)
    wrong = replace(make_annotations(2, 4), labels=torch.tensor([1, 4]))
    with pytest.raises(ValueError, match=r"labels of sample 1 must lie in 0\.\.3; got 1\.\.4"):
        Criterion(LossConfig())(output, [Annotations.empty(), wrong], GRID)
