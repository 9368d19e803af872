"""Mask2Former without stored numbers: batches, sizes, gradients, learning."""

from __future__ import annotations

import pytest
import torch

from bevstack.evaluation.segmentation.iou import LabelCounts
from bevstack.losses.mask_segmentation import mask_segmentation_losses, seeded_uniform
from bevstack.models.segmentation.inference import View, label_probabilities
from bevstack.models.segmentation.mask_decoder import DenseAttention, visible_cells
from bevstack.models.segmentation.mask_model import MaskSegmenter
from tests.models.segmentation.small_masks import CONFIG, two_pictures


def small_model() -> MaskSegmenter:
    torch.manual_seed(0)
    model = MaskSegmenter(CONFIG)
    with torch.no_grad():  # many weights start at zero, which hides what is before them
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("size", [(64, 96), (70, 41), (33, 1)])
@torch.no_grad()
def test_a_picture_has_the_same_output_in_every_batch(size: tuple[int, int]) -> None:
    model = small_model().eval()
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1))
    scores = model.pixel_logits(images)
    assert scores.shape == (3, 4, *size)
    for batch in (images[:1], images[1:]):
        start = 0 if len(batch) == 1 else 1
        # Float32 products of other shapes are added up in another order
        torch.testing.assert_close(
            model.pixel_logits(batch), scores[start : start + len(batch)], rtol=0, atol=1e-4
        )


def test_every_weight_gets_a_gradient_from_the_losses() -> None:
    model, (images, labels) = small_model(), two_pictures()
    losses = mask_segmentation_losses(
        model(images), labels, CONFIG.head, seeded_uniform((1, 2), images.device)
    )
    losses.total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_an_empty_mask_sees_every_cell_and_other_masks_their_own() -> None:
    masks = torch.full((1, 2, 8, 8), -5.0)
    masks[0, 1, :4, :4] = 5.0
    visible = visible_cells(masks, (4, 4))
    assert visible[0, 0].all()
    wanted = torch.zeros(4, 4, dtype=torch.bool)
    wanted[:2, :2] = True
    assert torch.equal(visible[0, 1].view(4, 4), wanted)


def test_attention_equals_a_loop_over_heads_and_queries() -> None:
    torch.manual_seed(0)
    attention = DenseAttention(6, 2).double()
    query, key, value = (torch.randn(2, n, 6, dtype=torch.float64) for n in (3, 5, 5))
    visible = torch.rand(2, 3, 5) > 0.4
    visible[..., 0] = True
    weights, biases = attention.in_proj.weight.chunk(3), attention.in_proj.bias.chunk(3)
    wanted = torch.zeros(2, 3, 6, dtype=torch.float64)
    for batch in range(2):
        q, k, v = (
            x[batch] @ weight.T + bias
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        for head in (slice(0, 3), slice(3, 6)):
            for row in range(3):
                cells = visible[batch, row].nonzero()[:, 0]
                logits = torch.stack([q[row, head] @ k[cell, head] / 3**0.5 for cell in cells])
                shares = logits.softmax(0)
                wanted[batch, row, head] = sum(
                    share * v[cell, head] for share, cell in zip(shares, cells, strict=True)
                )
    wanted = wanted @ attention.out_proj.weight.T + attention.out_proj.bias
    torch.testing.assert_close(attention(query, key, value, visible), wanted)


def test_it_learns_the_labels_of_two_pictures() -> None:
    torch.manual_seed(3)
    model, (images, labels) = MaskSegmenter(CONFIG), two_pictures()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    for step in range(150):
        optimizer.zero_grad()
        uniform = seeded_uniform((step, step + 1000), images.device)
        losses = mask_segmentation_losses(model(images), labels, CONFIG.head, uniform)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    views = [View(images), View(images, mirrored=True)]
    found = label_probabilities(model.eval().pixel_logits, views, (64, 96)).argmax(1)
    counts = LabelCounts(4)
    for own, wanted in zip(found, labels, strict=True):
        counts.add(own.to(torch.uint8).numpy(), wanted.to(torch.uint8).numpy())
    assert counts.scores().mean_iou >= 0.9
