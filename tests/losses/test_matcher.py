from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bevstack.config import LossConfig
from bevstack.geometry import BEVGrid
from bevstack.losses.matcher import match, matching_cost
from bevstack.losses.targets import encode_targets
from bevstack.models.detection3d.box_code import DecoderOutput
from tests.losses.published_losses import EVERYWHERE, read_losses
from tests.models.bevformer_oracle import assert_close
from tests.models.small_models import make_annotations

CASES = ("match_loss_plain", "match_loss_plain_b2")


def random_output(layers: int, batch: int, queries: int, classes: int, *, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return DecoderOutput(
        torch.randn(layers, batch, queries, classes, generator=generator),
        torch.randn(layers, batch, queries, 10, generator=generator),
    )


@pytest.mark.parametrize("name", [pytest.param(c, marks=pytest.mark.oracle(c)) for c in CASES])
def test_costs_and_assignments_match_the_published_code(name: str) -> None:
    stored = read_losses(name)
    targets = encode_targets(stored.annotations, EVERYWHERE, "cpu")
    # the stored costs are those of the last decoder layer
    by_class = matching_cost(stored.output, targets, replace(stored.config, box_weight=0.0))[-1]
    by_box = matching_cost(stored.output, targets, replace(stored.config, class_weight=0.0))[-1]
    matches = match(stored.output, targets, stored.config)
    tolerance = stored.case.tolerance
    for b, count in enumerate(targets.counts.tolist()):
        wanted = stored.case.outputs
        assert_close(by_class[b, :count].T, wanted[f"cost_cls.{b}.0"], tolerance)
        assert_close(by_box[b, :count].T, wanted[f"cost_reg.{b}.0"], tolerance)
        assigned = torch.zeros(stored.output.codes.shape[2], dtype=torch.int64)
        last = (matches.layer == stored.output.codes.shape[0] - 1) & (matches.sample == b)
        assigned[matches.query[last]] = matches.target[last] + 1
        assert torch.equal(assigned, wanted[f"assigned_gt_inds.{b}.0"])


def naive_cost(output: DecoderOutput, layer: int, sample: int, query: int, code, label: int):
    p = 1 / (1 + math.exp(-float(output.logits[layer, sample, query, label])))
    cost = 2 * (-0.25 * (1 - p) ** 2 * math.log(p) + 0.75 * p**2 * math.log(1 - p))
    for predicted, true in zip(output.codes[layer, sample, query, :8], code[:8], strict=True):
        distance = abs(float(predicted - true))
        cost += 0.75 * (distance**2 / 2 if distance < 1 else distance - 0.5)
    return cost


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_matching_is_the_cheapest_of_all_assignments(batch: int) -> None:
    output = random_output(2, batch, 5, 4, seed=batch)
    annotations = [make_annotations((3 + b) % 4, 4, seed=b, spread_m=3.0) for b in range(batch)]
    targets = encode_targets(annotations, BEVGrid(), "cpu")
    matches = match(output, targets, LossConfig())
    for layer in range(2):
        for b, true in enumerate(annotations):
            cost = [
                [
                    naive_cost(output, layer, b, q, targets.codes[b, a], int(true.labels[a]))
                    for a in range(len(true))
                ]
                for q in range(5)
            ]
            chosen = (matches.layer == layer) & (matches.sample == b)
            pairs = list(
                zip(matches.query[chosen].tolist(), matches.target[chosen].tolist(), strict=True)
            )
            assert sorted(a for _, a in pairs) == list(range(len(true)))
            cheapest = min(
                sum(cost[q][a] for a, q in enumerate(order))
                for order in itertools.permutations(range(5), len(true))
            )
            assert sum(cost[q][a] for q, a in pairs) == pytest.approx(cheapest, abs=1e-5)


def test_costs_equal_loops_box_by_box() -> None:
    output = random_output(2, 3, 5, 4, seed=5)
    annotations = [make_annotations(n, 4, seed=n, spread_m=3.0) for n in (2, 0, 4)]
    targets = encode_targets(annotations, BEVGrid(), "cpu")
    cost = matching_cost(output, targets, LossConfig())
    assert cost.shape == (2, 3, 4, 5)  # true boxes before queries
    for layer, (b, true), query in itertools.product(range(2), enumerate(annotations), range(5)):
        for a in range(len(true)):
            code, label = targets.codes[b, a], int(true.labels[a])
            wanted = naive_cost(output, layer, b, query, code, label)
            assert float(cost[layer, b, a, query]) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_inactive_queries_are_as_if_they_were_not_there() -> None:
    """Match two groups of six queries; each sample has different inactive ones."""
    output = random_output(3, 2, 12, 4)
    annotations = [make_annotations(7, 4, spread_m=3.0), make_annotations(3, 4, seed=1)]
    targets = encode_targets(annotations, BEVGrid(), "cpu")
    active = torch.ones(2, 12, dtype=torch.bool)
    active[0, [1, 4, 7, 10]] = False
    active[1, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]] = False
    # inactive queries that would be the best matches
    output.codes[:, 0, [1, 7], :] = targets.codes[0, 0].nan_to_num()
    got = match(replace(output, num_groups=2, active=active), targets, LossConfig())
    expected = []
    for b, group in itertools.product(range(2), range(2)):
        rows = 6 * group + active[b, 6 * group : 6 * group + 6].nonzero().squeeze(-1)
        alone = DecoderOutput(output.logits[:, b : b + 1, rows], output.codes[:, b : b + 1, rows])
        sample_targets = encode_targets(annotations[b : b + 1], BEVGrid(), "cpu")
        matches = match(alone, sample_targets, LossConfig())
        rows_of_match = (matches.layer, torch.full_like(matches.layer, b), rows[matches.query])
        expected += torch.stack((*rows_of_match, matches.target), 1).tolist()
    fields = (got.layer, got.sample, got.query, got.target)
    assert torch.stack(fields, 1).tolist() == sorted(expected)
    assert len(expected) == 3 * (4 + 4 + 1 + 1)


def test_sample_without_active_queries_matches_nothing() -> None:
    output = random_output(1, 2, 3, 4)
    annotations = [make_annotations(2, 4), make_annotations(1, 4, seed=1)]
    active = torch.tensor(((False, False, False), (True, False, True)))
    targets = encode_targets(annotations, BEVGrid(), "cpu")
    assert match(replace(output, active=active), targets, LossConfig()).sample.tolist() == [1]


class CountWaits(TorchDispatchMode):
    """Recorder of operations whose result the host needs, so that it waits for the device."""

    WAITS = (
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.masked_select.default,
        torch.ops.aten.is_nonzero.default,
        torch.ops.aten.equal.default,
    )

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func is torch.ops.aten.index.Tensor and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        if func in self.WAITS or by_mask:
            self.waits.append(str(func))
        return func(*args, **(kwargs or {}))


def test_more_boxes_than_queries_matches_every_query_once() -> None:
    output = random_output(1, 2, 3, 4)
    annotations = [make_annotations(7, 4), make_annotations(2, 4, seed=1)]
    matches = match(output, encode_targets(annotations, BEVGrid(), "cpu"), LossConfig())
    first = matches.sample == 0
    assert sorted(matches.query[first].tolist()) == [0, 1, 2]
    assert len(set(matches.target[first].tolist())) == 3
    assert int((~first).sum()) == 2


def test_no_true_box_matches_nothing() -> None:
    output = random_output(2, 2, 3, 4)
    annotations = [make_annotations(0, 4), make_annotations(0, 4)]
    matches = match(output, encode_targets(annotations, BEVGrid(), "cpu"), LossConfig())
    assert all(getattr(matches, f).numel() == 0 for f in ("layer", "sample", "query", "target"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_cost_that_is_not_finite_names_layer_and_sample(value: float) -> None:
    output = random_output(3, 2, 4, 4)
    output.codes[1, 1, 2, 3] = value
    annotations = [make_annotations(2, 4), make_annotations(3, 4, seed=1)]
    targets = encode_targets(annotations, BEVGrid(), "cpu")
    with pytest.raises(ValueError, match="decoder layer 1, sample 1 must be finite"):
        match(output, targets, LossConfig())


def test_unknown_velocity_does_not_disturb_the_matching() -> None:
    output = random_output(1, 1, 6, 4)
    known = make_annotations(4, 4)
    velocity = torch.full((4, 2), math.nan)
    unknown = replace(known, boxes=replace(known.boxes, velocity=velocity))
    matches = [
        match(output, encode_targets([a], BEVGrid(), "cpu"), LossConfig()) for a in (known, unknown)
    ]
    assert torch.equal(matches[0].query, matches[1].query)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size", 0.0, r"got the size \[0\.0, "),
        ("size", -1.0, r"got the size \[nan, "),
        ("size", math.inf, r"got the size \[inf, "),
        ("yaw", math.nan, "must have a finite centre and yaw"),
    ],
)
def test_a_faulty_true_box_is_not_called_divergence(field: str, value: float, message: str) -> None:
    annotations = make_annotations(2, 4)
    boxes = annotations.boxes
    changed = getattr(boxes, field).clone()
    changed.flatten()[0] = value
    faulty = replace(annotations, boxes=replace(boxes, **{field: changed}))
    targets = encode_targets([make_annotations(3, 4, seed=1), faulty], BEVGrid(), "cpu")
    with pytest.raises(ValueError, match=rf"true boxes of sample 1 .*{message}") as caught:
        match(random_output(2, 2, 4, 4), targets, LossConfig())
    assert "learning rate" not in str(caught.value)
