"""Losses of Mask2Former against loops, and at their edges."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bevstack.config.mask_segmentation import MaskHeadConfig
from bevstack.losses.mask_segmentation import (
    TrueMasks,
    class_loss,
    dice_distance,
    loss_points,
    mask_segmentation_losses,
    match_masks,
    pairwise_dice,
    pairwise_entropy,
    sample_masks,
    seeded_uniform,
    split_labels,
)
from bevstack.models.segmentation.mask_decoder import MaskPrediction

CONFIG = MaskHeadConfig(sampled_points=40)
CPU = torch.device("cpu")


def predictions(batch: int = 2, *, queries: int = 5, classes: int = 3) -> MaskPrediction:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(batch, queries, classes + 1, generator=generator)
    masks = 3 * torch.randn(batch, queries, 6, 9, generator=generator)
    return MaskPrediction(logits.requires_grad_(), masks.requires_grad_())


def some_labels() -> Tensor:
    labels = torch.zeros(2, 12, 18, dtype=torch.int64)
    labels[0, 4:] = 2
    labels[0, :2], labels[1, :, 9:] = 255, 1
    return labels


def test_samples_equal_a_loop_over_the_four_neighbours() -> None:
    masks = torch.randn(2, 1, 4, 7, generator=torch.Generator().manual_seed(0))
    points = torch.rand(2, 9, 2, generator=torch.Generator().manual_seed(1))
    points[0, 0], points[0, 1] = 0, 1
    wanted = torch.zeros(2, 1, 9)
    for picture in range(2):
        for index in range(9):
            x, y = points[picture, index] * torch.tensor([7.0, 4.0]) - 0.5
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < 4 and 0 <= column < 7:
                        share = (1 - abs(float(y) - row)) * (1 - abs(float(x) - column))
                        wanted[picture, 0, index] += share * masks[picture, 0, row, column]
    torch.testing.assert_close(sample_masks(masks, points), wanted, rtol=0, atol=1e-5)


def test_costs_of_pairs_equal_a_loop() -> None:
    predicted = 2 * torch.randn(4, 11, generator=torch.Generator().manual_seed(2))
    targets = torch.rand(3, 11, generator=torch.Generator().manual_seed(3))
    entropy = pairwise_entropy(predicted, targets)
    dice = pairwise_dice(predicted.sigmoid(), targets)
    for query in range(4):
        for mask in range(3):
            p, t = predicted[query].sigmoid().double(), targets[mask].double()
            mean = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
            assert float(entropy[query, mask]) == pytest.approx(float(mean), rel=1e-5)
            overlap = (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
            assert float(dice[query, mask]) == pytest.approx(1 - float(overlap), rel=1e-5)
    rows = dice_distance(predicted[:3].sigmoid(), targets)
    torch.testing.assert_close(rows, dice.diagonal())


def test_uncertain_points_are_nearest_to_the_border_of_the_mask() -> None:
    masks = torch.linspace(-3, 3, 20).expand(2, 10, 20)  # zero in the middle
    config = replace(CONFIG, sampled_points=200)
    points = loss_points(masks, config, seeded_uniform((0,), CPU))
    assert points.shape == (2, 200, 2) and points.min() >= 0 and points.max() < 1
    uncertain, chance = points[:, :150], points[:, 150:]
    assert (uncertain[..., 0] - 0.5).abs().max() < 0.2  # a quarter of the candidates
    assert (chance[..., 0] - 0.5).abs().max() > 0.4


def test_classes_of_unmatched_queries_count_with_the_weight_of_no_object() -> None:
    logits, truth = predictions(1).logits, [TrueMasks(torch.tensor([2]), torch.ones(1, 6, 9))]
    matches = [(torch.tensor([3]), torch.tensor([0]))]
    loss = class_loss(logits, matches, truth, empty_weight=0.1)
    logs = logits[0].log_softmax(-1)
    total = -logs[3, 2] - 0.1 * sum(logs[query, 3] for query in (0, 1, 2, 4))
    torch.testing.assert_close(loss, total / 1.4)


def test_each_mask_gets_the_query_that_fits_it() -> None:
    truth = split_labels(some_labels())
    masks = torch.full((2, 5, 12, 18), -9.0)
    wanted = ((4, 1), (0, 3))  # queries of the masks of both pictures
    for picture, queries in enumerate(wanted):
        for query, mask in zip(queries, truth[picture].masks, strict=True):
            masks[picture, query] = 18 * mask - 9
    found = match_masks(
        MaskPrediction(torch.zeros(2, 5, 4), masks), truth, CONFIG, seeded_uniform((5,), CPU)
    )
    for queries, (rows, columns) in zip(wanted, found, strict=True):
        assert {int(c): int(r) for r, c in zip(rows, columns, strict=True)} == dict(
            enumerate(queries)
        )


def test_the_same_seeds_give_the_same_losses() -> None:
    def total(*seeds: int) -> Tensor:
        uniform = seeded_uniform(seeds, CPU)
        return mask_segmentation_losses([predictions()], some_labels(), CONFIG, uniform).total

    assert torch.equal(total(1, 2), total(1, 2))
    assert not torch.equal(total(1, 2), total(2, 1))


def test_pictures_without_a_label_teach_that_there_is_no_object() -> None:
    prediction, labels = predictions(), torch.full((2, 12, 18), 255)
    losses = mask_segmentation_losses([prediction], labels, CONFIG, seeded_uniform((1, 2), CPU))
    assert losses.terms["mask_0"] == 0 and losses.terms["dice_0"] == 0
    logs = prediction.logits.log_softmax(-1)[..., -1]
    torch.testing.assert_close(losses.total, -CONFIG.class_weight * logs.mean())
    losses.total.backward()
    assert prediction.masks.grad is not None  # in every process, so that none waits
    labels[1, 0] = 0  # one of two pictures has a class
    losses = mask_segmentation_losses([prediction], labels, CONFIG, seeded_uniform((1, 2), CPU))
    assert losses.terms["mask_0"] > 0 and losses.total.isfinite()


def test_more_classes_than_queries_leave_some_unmatched() -> None:
    labels = torch.arange(3).repeat(2, 12, 6)
    losses = mask_segmentation_losses(
        [predictions(queries=2)], labels, CONFIG, seeded_uniform((1, 2), CPU)
    )
    assert losses.total.isfinite()


@pytest.mark.parametrize("label", [-1, 3, 254])
def test_labels_without_a_class_are_refused(label: int) -> None:
    labels = some_labels()
    labels[1, 5, 5] = label
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2, or be 255; got"):
        mask_segmentation_losses([predictions()], labels, CONFIG, seeded_uniform((1,), CPU))


def test_labels_of_another_number_of_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        mask_segmentation_losses(
            [predictions()], some_labels()[:1], CONFIG, seeded_uniform((1,), CPU)
        )
