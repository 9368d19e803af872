"""Mask R-CNN and Cascade Mask R-CNN without stored numbers: gradients, seeds, empty pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bevstack.config import InternImageConfig
from bevstack.config.detection2d import Detection2DConfig, PictureConfig, RoIConfig, RPNConfig
from bevstack.losses.detection2d import detection2d_losses
from bevstack.models.detection2d.model import RegionDetector
from bevstack.types.pictures2d import PictureBatch, PictureObjects, PictureSize

SMALL = Detection2DConfig(
    name="small",
    class_names=("a", "b", "c"),
    pictures=PictureConfig(long_side=96, short_side=64),
    backbone=InternImageConfig(
        channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8), drop_path_rate=0.0
    ),
    channels=16,
    rpn=RPNConfig(scale=4, candidates=50, proposals=30, train_candidates=50, train_proposals=30),
    roi=RoIConfig(hidden_channels=32, num_mask_convs=1, samples=24),
)
CASCADE = replace(
    SMALL,
    roi=replace(
        SMALL.roi,
        num_convs=1,
        num_linear=1,
        stds=((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1)),
        ious=(0.5, 0.6),
        weights=(1.0, 0.5),
        match_best=False,
        giou=True,
        box_weight=10.0,
    ),
)
CONFIGS = {"mask": SMALL, "cascade": CASCADE}


def batch(*, seed: int = 3, empty: bool = False) -> PictureBatch:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[10.0, 8, 40, 50], [50, 20, 90, 60]])
    masks = torch.zeros(2, 64, 96, dtype=torch.uint8)
    masks[0, 8:50, 10:30], masks[1, 20:60, 60:90] = 1, 1
    labels = torch.tensor([0, 2])
    if empty:
        boxes, labels, masks = boxes[:0], labels[:0], masks[:0]
    size = PictureSize(original=(128, 192), resized=(64, 96), padded=(64, 96))
    return PictureBatch(
        images=torch.randn(1, 3, 64, 96, generator=generator),
        sizes=(size,),
        names=("picture",),
        objects=(PictureObjects(boxes=boxes, labels=labels, masks=masks),),
        seeds=(seed,),
    )


def perturbed(config: Detection2DConfig) -> RegionDetector:
    """Return a detector without weights that are zero, which hide what is before them."""
    torch.manual_seed(0)
    model = RegionDetector(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_weight_gets_a_gradient(kind: str) -> None:
    model = perturbed(CONFIGS[kind])
    losses = detection2d_losses(model(batch()), batch(), CONFIGS[kind])
    assert losses.total.isfinite()
    losses.total.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without, without


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_picture_without_objects_trains_classes_alone(kind: str) -> None:
    model = perturbed(CONFIGS[kind])
    output = model(batch(empty=True))
    losses = detection2d_losses(output, batch(empty=True), CONFIGS[kind])
    losses.total.backward()
    for name, value in losses.terms.items():
        assert value.isfinite()
        assert bool(value > 0) == ("class" in name), name


def test_samples_follow_from_the_seed() -> None:
    model = perturbed(SMALL)
    first, second, other = (model(batch(seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(first.stages[0].box.logits, second.stages[0].box.logits)
    assert not torch.equal(first.stages[0].box.logits, other.stages[0].box.logits)


@pytest.mark.parametrize("kind", CONFIGS)
def test_no_detection_gives_empty_tensors(kind: str) -> None:
    config = CONFIGS[kind]
    model = perturbed(replace(config, roi=replace(config.roi, score_threshold=1.0))).eval()
    (found,) = model.detect(batch())
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.mask_values is not None
    assert found.mask_values.shape == (0, 28, 28)


def test_results_of_a_batch_are_those_of_its_pictures() -> None:
    model = perturbed(replace(SMALL, roi=replace(SMALL.roi, score_threshold=0.0))).eval()
    own = batch()
    (alone,) = model.detect(own)
    both = replace(
        own,
        images=torch.cat((own.images.flip(0) * 0.5, own.images)),
        sizes=own.sizes * 2,
        names=("other", "picture"),
    )
    found = model.detect(both)[1]
    assert torch.equal(found.labels, alone.labels)
    torch.testing.assert_close(found.boxes, alone.boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.mask_values, alone.mask_values, rtol=0, atol=1e-4)
