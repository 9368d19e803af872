"""DINO without stored numbers: gradients of all weights, two backbones, noise of seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bevstack.config import InternImageConfig
from bevstack.config.dino import DinoConfig, DinoDetectorConfig
from bevstack.losses.dino import dino_losses
from bevstack.models.detection2d.dino.model import Dino
from bevstack.types.pictures2d import PictureBatch, PictureObjects, PictureSize

CONFIG = DinoDetectorConfig(
    name="small",
    class_names=("a", "b", "c"),
    backbone=InternImageConfig(
        channels=16,
        depths=(1, 1, 2, 1),
        groups=(1, 2, 4, 8),
        drop_path_rate=0.0,
        out_indices=(1, 2, 3),
    ),
    dino=DinoConfig(
        channels=32,
        encoder_layers=1,
        decoder_layers=2,
        feedforward_channels=32,
        num_queries=12,
        norm_groups=8,
        noised_queries=6,
        detections=10,
    ),
)


def batch(*, objects: bool) -> PictureBatch:
    generator = torch.Generator().manual_seed(0)
    size = PictureSize(original=(64, 96), resized=(64, 96), padded=(64, 96))
    truth = PictureObjects(
        boxes=torch.tensor([[10.0, 8, 40, 50], [50, 20, 90, 60]]), labels=torch.tensor([0, 2])
    )
    return PictureBatch(
        images=torch.randn(1, 3, 64, 96, generator=generator),
        sizes=(size,),
        names=("picture",),
        objects=(truth,) if objects else (),
        seeds=(3,) if objects else (),
    )


@pytest.mark.parametrize("composite", [False, True])
def test_every_weight_gets_a_gradient(composite: bool) -> None:
    torch.manual_seed(0)
    model = Dino(replace(CONFIG, composite=composite))
    with torch.no_grad():  # many weights start at zero, which hides what is before them
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    losses = dino_losses(model(batch(objects=True)), batch(objects=True), CONFIG.dino)
    losses.total.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without, without


def test_the_first_of_two_backbones_has_losses_of_half_the_weight() -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, composite=True, dino=replace(CONFIG.dino, noised_queries=0))
    model, pictures = Dino(config), batch(objects=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    output = model(pictures)
    assert output.first is not None
    maps = model.backbone.both(pictures.images)
    for got, own in zip((output.first, output), maps, strict=True):
        alone = model(pictures, own)
        assert alone.first is None
        # Float32 products of two pictures are added up in another order
        torch.testing.assert_close(got.logits, alone.logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(got.proposal_boxes, alone.proposal_boxes, rtol=0, atol=1e-5)
    losses = dino_losses(output, pictures, config.dino)
    first = dino_losses(output.first, pictures, config.dino)
    second = dino_losses(output._replace(first=None), pictures, config.dino)
    torch.testing.assert_close(losses.total, second.total + 0.5 * first.total)
    assert {f"{name}_first" for name in first.terms} | set(second.terms) == set(losses.terms)
    assert model.eval()(pictures).first is None  # in training alone


def test_both_backbones_get_noise_of_their_own() -> None:
    torch.manual_seed(0)
    output = Dino(replace(CONFIG, composite=True))(batch(objects=True))
    first, second = output.first.noised, output.noised
    assert first.labels.shape == second.labels.shape and first.groups == second.groups
    assert not torch.equal(first.boxes, second.boxes)


def test_the_same_seeds_give_the_same_noise() -> None:
    torch.manual_seed(0)
    model = Dino(CONFIG)
    first, second = (model(batch(objects=True)) for _ in range(2))
    assert torch.equal(first.logits, second.logits)
    other = model(replace(batch(objects=True), seeds=(4,)))
    assert not torch.equal(first.noised.boxes, other.noised.boxes)
    assert torch.equal(first.proposal_logits, other.proposal_logits)
    # Queries without noise do not see those with it.
    start = first.noised.total
    torch.testing.assert_close(first.logits[:, :, start:], other.logits[:, :, start:])
