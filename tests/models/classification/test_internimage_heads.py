from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bevstack.models.backbones.internimage import InternImage
from bevstack.models.classification.internimage_heads import (
    POOL_HEADS,
    AttentionPoolingHead,
    InternImageClassifier,
)
from tests.models.backbones import internimage_naive as naive
from tests.models.backbones.test_internimage import FLAGS, SMALL, images_of, randomise

POOLING = replace(SMALL, classification_head="attention_pooling")


def test_conv_head_equals_its_formula() -> None:
    model = randomise(InternImageClassifier(SMALL, 7).double().eval())
    images = images_of(2, 3, 45, 30)
    state = dict(model.state_dict())
    stage = naive.stages(images, naive.within(state, "backbone."), SMALL)[-1]
    head = naive.within(state, "head.")
    x = naive.batch_norm(
        naive.conv(stage, naive.within(head, "conv.")), naive.within(head, "norm.")
    )
    x = naive.activation(x, SMALL).mean((2, 3), keepdim=True)
    wanted = naive.linear(x, naive.within(head, "fc."))[..., 0, 0]
    with torch.no_grad():
        # Two float64 evaluations in different order, on logits of order 1.
        torch.testing.assert_close(model(images), wanted, rtol=0, atol=1e-11)
    assert head["conv.weight"].shape == (192, 128, 1, 1)  # 1.5 times the last stage's channels


@pytest.mark.parametrize("batch", [1, 2])
def test_attention_pooling_head_equals_its_formula(batch: int) -> None:
    head = randomise(AttentionPoolingHead(POOLING, 5).double())
    fine, coarse = images_of(batch, 64, 4, 6), images_of(batch, 128, 2, 3, seed=4)
    wanted = naive.attention_pooling(fine, coarse, dict(head.state_dict()), POOL_HEADS)
    with torch.no_grad():
        torch.testing.assert_close(head((fine, coarse)), wanted, rtol=0, atol=1e-11)


def test_attention_pooling_classifier_feeds_its_head_the_last_two_stages() -> None:
    config = replace(FLAGS["like_h"], classification_head="attention_pooling")
    model = randomise(InternImageClassifier(config, 4).double().eval())
    every = InternImage(config).double().eval()
    every.load_state_dict(model.backbone.state_dict())
    images = images_of(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(model(images), model.head(every(images)[2:]))


def test_attention_pooling_refuses_sides_that_do_not_halve() -> None:
    model = InternImageClassifier(POOLING, 3).eval()
    with pytest.raises(ValueError, match=r"got maps of \(3, 4\) and \(2, 2\).*multiples of 32"):
        model(torch.zeros(1, 3, 47, 64))


def test_conv_head_takes_any_size_and_every_class_count_is_positive() -> None:
    assert InternImageClassifier(SMALL, 21).eval()(torch.zeros(2, 3, 19, 50)).shape == (2, 21)
    with pytest.raises(ValueError, match="num_classes must be positive; got 0"):
        InternImageClassifier(SMALL, 0)


def test_pooling_gradients_reach_query_key_and_value() -> None:
    head = randomise(AttentionPoolingHead(POOLING, 5).double())
    head((images_of(2, 64, 4, 2), images_of(2, 128, 2, 1))).square().sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        # A shift of all keys moves every score alike, and softmax does not see it.
        if name not in ("pool.attention.k_bias", "pool.norm_k.bias"):
            assert parameter.grad.abs().max() > 1e-9, name
