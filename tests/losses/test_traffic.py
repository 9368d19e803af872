"""Losses of the traffic head against formulas, and on batches without labels or images."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from bevstack.geometry import BEVGrid
from bevstack.losses.traffic import (
    box_loss,
    center_focal_loss,
    color_loss,
    laplace_loss,
    traffic_losses,
)
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.traffic.model import TrafficModel
from bevstack.types.traffic_batch import TrafficTargets
from tests.models.traffic.cases import CONFIG, two_rigs
from tests.small_world import CONFIG as DETECTOR


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    backbone = InternImage(DETECTOR.backbone)
    return TrafficModel(CONFIG, backbone, grid=BEVGrid(shape=(10, 12)), bev_channels=8)


def test_objectness_is_the_focal_loss_of_centers():
    logits = torch.tensor([2.0, -1.0, 0.5, 3.0])
    heat = torch.tensor([1.0, 0.0, 0.6, 0.0])
    counts = torch.tensor([True, True, True, False])
    wanted = 0.0
    for logit, value in zip(logits[:3].tolist(), heat[:3].tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        if value == 1:
            wanted -= (1 - p) ** 2 * math.log(p)
        else:
            wanted -= (1 - value) ** 4 * p**2 * math.log(1 - p)
    assert float(center_focal_loss(logits, heat, counts)) == pytest.approx(wanted, rel=1e-5)


def test_box_loss_is_generalised_iou_and_distances():
    predicted = torch.tensor([[0.0, 0.0, 4.0, 4.0], [10.0, 10.0, 12.0, 14.0]])
    wanted = torch.tensor([[2.0, 0.0, 6.0, 4.0], [10.0, 10.0, 12.0, 14.0]])
    # 8 of 24 shared, hull 24; sides differ by 2 / 4 in left and right: smooth L1 of beta 0.2
    first = 1 - 8 / 24 + 0.5 * (2 * (0.5 - 0.1)) / 4
    torch.testing.assert_close(box_loss(predicted, wanted), torch.tensor([first, 0.0]))
    apart = box_loss(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[3.0, 0, 4, 1]]))
    assert float(apart) > 1  # boxes that do not touch still attract each other


def test_laplace_loss_is_least_at_the_true_spread():
    error = torch.full((200,), 0.3)
    spreads = torch.linspace(-3, 1, 200)
    best = spreads[laplace_loss(error, spreads).argmin()]
    assert float(best) == pytest.approx(math.log(0.3), abs=0.03)  # the grid's step


def test_color_loss_wants_equal_shares_of_a_hidden_colour_and_nothing_of_an_unknown_one():
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    labels, weights = torch.tensor([2, -2, -1, 0]), torch.tensor([1.0, 1.0, 3.0, 1.0, 3.0]).double()
    wanted, rows = 0.0, logits.tolist()
    for row, label in zip(rows, labels.tolist(), strict=True):
        logs = [value - math.log(sum(map(math.exp, row))) for value in row]
        wanted -= sum(logs) / 5 if label == -2 else 0.0
        wanted -= float(weights[label]) * logs[label] if label >= 0 else 0.0
    loss = color_loss(logits, labels, weights)
    assert loss.item() == pytest.approx(wanted / (3 + 1 + 1), rel=1e-6)
    loss.backward()
    assert logits.grad is not None and not logits.grad[2].any() and logits.grad[1].any()
    with torch.no_grad():
        even = torch.zeros(1, 5)
        least = color_loss(even, torch.tensor([-2]), weights.float())
        other = color_loss(even + torch.randn(1, 5), torch.tensor([-2]), weights.float())
    assert float(least) == pytest.approx(math.log(5)) and other > least


def test_every_part_of_the_head_gets_a_gradient(model):
    batch = two_rigs()
    model.train().zero_grad()
    losses = traffic_losses(model(batch.views, batch.targets), batch, CONFIG)
    losses.total.backward()
    assert losses.total.isfinite()
    assert float(losses.terms["relevance"]) > 0  # one light governs the own lane
    without = {name for name, p in model.named_parameters() if p.grad is None}
    # stages of the backbone that the head does not use
    assert all(name.startswith("backbone.levels.") for name in without)


def test_the_number_of_a_speed_limit_is_learned():
    config = dataclasses.replace(CONFIG, speed_limits_kmh=(30, 50))
    batch = two_rigs(config)
    numbers = TrafficModel(
        config, InternImage(DETECTOR.backbone), grid=BEVGrid(shape=(10, 12)), bev_channels=8
    ).train()

    def loss(limit):
        targets = dataclasses.replace(batch.targets, speed_limit=torch.tensor([-1, limit, -1]))
        given = dataclasses.replace(batch, targets=targets)
        torch.manual_seed(1)  # the true boxes among the regions are shifted at random
        return traffic_losses(numbers(batch.views, targets), given, config)

    assert float(loss(-1).terms["speed_limit"]) == 0
    term = loss(1)
    assert 0 < float(term.terms["speed_limit"]) < 2
    term.total.backward()
    assert numbers.regions.speed_limit.output[0].weight.grad.abs().sum() > 0


def test_a_batch_without_labels_has_only_negatives(model):
    batch = dataclasses.replace(two_rigs(), targets=TrafficTargets.empty())
    losses = traffic_losses(model(batch.views, batch.targets), batch, CONFIG)
    assert losses.total.isfinite()
    positive = {name for name, term in losses.terms.items() if float(term) != 0}
    assert positive == {"objectness", "score"}


def test_unknown_labels_give_no_loss_and_no_gradient(model):
    batch = two_rigs()
    unknown = torch.full_like(batch.targets.color, -1)
    nan = torch.full_like(batch.targets.depth_m, math.nan)
    targets = dataclasses.replace(
        batch.targets,
        color=unknown,
        shape=unknown,
        pedestrian=unknown,
        meaning=unknown,
        depth_m=nan,
        aspect_rad=nan,
        relevance=torch.full_like(batch.targets.relevance, -1),
    )
    batch = dataclasses.replace(batch, targets=targets)
    model.zero_grad()
    losses = traffic_losses(model(batch.views, targets), batch, CONFIG)
    losses.total.backward()
    learned = {name for name, term in losses.terms.items() if float(term) != 0}
    assert learned == {"objectness", "score", "box", "refined_box"}
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_yellow_counts_as_the_configuration_sets():
    logits = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    labels = torch.tensor([1, 2])
    weights = torch.tensor([1.0, 1.0, 4.0])
    entropy = -logits.log_softmax(1)[[0, 1], labels]
    wanted = (entropy[0] + 4 * entropy[1]) / 5
    torch.testing.assert_close(color_loss(logits, labels, weights), wanted)
