"""A training step and an evaluation step of every packaged configuration, scaled down."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bevstack.config import Config, load_config, packaged_configs
from bevstack.losses import DetectorCriterion
from bevstack.models.build import build_model
from tests.models.scaled_down import scaled_down, training_clips

NAMES = packaged_configs()


def loss_of(config: Config, model, batch, *, autocast: bool = False) -> torch.Tensor:
    criterion = DetectorCriterion(config.loss, config.perspective)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = model(batch)
    return criterion(output, batch, model.grid).total


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_reaches_every_parameter(name: str) -> None:
    config = scaled_down(load_config(name))
    torch.manual_seed(0)
    model = build_model(config).train()
    loss = loss_of(config, model, training_clips(config, 2))
    loss.backward()
    assert torch.isfinite(loss)
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_gives_finite_boxes(name: str) -> None:
    config = scaled_down(load_config(name))
    torch.manual_seed(0)
    model = build_model(config).eval()
    batch = replace(training_clips(config, 2), annotations=None, camera_annotations=None)
    with torch.inference_mode():
        output = model(batch)
    assert output.decoder.codes.shape[1] == 2
    assert torch.isfinite(output.decoder.codes).all()
    assert torch.isfinite(output.decoder.logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_builds_without_memory(name: str) -> None:
    with torch.device("meta"):
        model = build_model(load_config(name))
    assert all(parameter.is_meta for parameter in model.parameters())


# One of each kind of stage: both backbones, both alignments, with and without proposals.
KINDS = ("bevformerv2_r50_t2", "bevformerv2_internimage_xl_bidirectional", "tiny_cpu_t4")


@pytest.mark.parametrize("name", KINDS)
def test_training_under_bfloat16_autocast_gives_nearly_the_same_loss(name: str) -> None:
    config = scaled_down(load_config(name))
    losses = []
    for autocast in (False, True):
        torch.manual_seed(0)
        model = build_model(config).train()
        torch.manual_seed(1)  # the same dropout
        loss = loss_of(config, model, training_clips(config, 2), autocast=autocast)
        loss.backward()
        assert torch.isfinite(loss)
        for parameter_name, parameter in model.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert torch.isfinite(parameter.grad).all(), parameter_name
        losses.append(float(loss.detach()))
    # bfloat16 keeps eight bits: 0.4 % an operation, in a chain of some dozens
    assert abs(losses[1] - losses[0]) < 0.1 * losses[0]


@pytest.mark.parametrize("name", KINDS)
def test_checkpointed_activations_give_the_same_gradients(name: str) -> None:
    plain = scaled_down(load_config(name))
    frugal = replace(
        plain,
        backbone=replace(plain.backbone, activation_checkpointing=True),
        encoder=replace(plain.encoder, activation_checkpointing=True),
        decoder=replace(plain.decoder, activation_checkpointing=True),
        temporal=plain.temporal and replace(plain.temporal, activation_checkpointing=True),
        perspective=plain.perspective and replace(plain.perspective, activation_checkpointing=True),
    )
    gradients = []
    for config in (plain, frugal):
        torch.manual_seed(0)
        model = build_model(config).train()
        torch.manual_seed(1)  # the same dropout
        loss_of(config, model, training_clips(config, 1)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for parameter_name, gradient in gradients[0].items():
        # the same operations in the same order, run twice
        assert torch.equal(gradients[1][parameter_name], gradient), parameter_name
