"""History in training: no gradient, no change of batch statistics, modes restored."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bevstack.config import PerspectiveConfig, ResNetConfig
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.build import build_model
from tests.models.drives import (
    ALIGNMENTS,
    FRAMES,
    make_drive,
    temporal_config,
    temporal_model,
)
from tests.models.small_models import randomise


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("frames", [FRAMES, (-1, 0, 2)])
def test_only_the_current_frame_has_a_gradient(alignment: str, frames: tuple[int, ...]) -> None:
    model = temporal_model(frames, alignment).train()
    clip = make_drive(2, 6).clip(3, frames)
    images = clip.images.clone().requires_grad_()
    output = model(replace(clip, images=images)).decoder
    (output.logits.square().sum() + output.codes.square().sum()).backward()
    current = frames.index(0)
    for slot in range(len(frames)):
        assert bool(images.grad[:, slot].any()) is (slot == current)
    for name, parameter in model.fusion.named_parameters():
        assert parameter.grad is not None, name


def test_gradients_reach_the_same_parameters_under_autocast() -> None:
    clip = make_drive(1, 4).clip(3, FRAMES)

    def with_gradient(lowered: bool) -> set[str]:
        model = temporal_model().train()
        with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
            output = model(clip).decoder
        (output.logits.square().sum() + output.codes.square().sum()).backward()
        return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    assert with_gradient(True) == with_gradient(False)


class FailsOnHistory(torch.nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("no such image")


def test_modes_are_restored_even_if_history_fails() -> None:
    model = temporal_model().train()
    model.neck.eval()
    model.encoder.layers[0].norms.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    called: list[bool] = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: called.append(module.training))
    clip = make_drive(1, 4).clip(3, FRAMES)
    model(clip)
    assert called == [False, True]
    assert {name: module.training for name, module in model.named_modules()} == modes
    backbone, model.backbone = model.backbone, FailsOnHistory()
    with pytest.raises(RuntimeError, match="no such image"):
        model(clip)
    model.backbone = backbone
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.is_grad_enabled()


def with_batch_norm() -> BEVFormerV2:
    torch.manual_seed(0)
    config = replace(temporal_config(), backbone=ResNetConfig(base_channels=4, norm="BN"))
    return randomise(build_model(config), scale=0.05).train()


def test_history_does_not_change_the_statistics_of_batch_norms() -> None:
    clip = make_drive(2, 4).clip(3, FRAMES)
    whole, single = with_batch_norm(), with_batch_norm()
    whole(clip)
    single(make_drive(2, 4).step(3))
    changed = 0
    for (name, ours), theirs in zip(whole.named_buffers(), single.buffers(), strict=True):
        if name.startswith("backbone."):
            assert torch.equal(ours, theirs), name
            changed += int(ours.sum() > 0)
    assert changed > 10


def test_history_is_normalised_by_the_statistics_before_the_step() -> None:
    """The current frame, which updates them, comes afterwards, as in the released code."""
    clip = make_drive(2, 4).clip(3, FRAMES)
    model, before = with_batch_norm(), with_batch_norm().eval()
    maps: list[Tensor] = []
    model.fusion.register_forward_pre_hook(lambda module, inputs: maps.append(inputs[0]))
    before.fusion.register_forward_pre_hook(lambda module, inputs: maps.append(inputs[0]))
    model(clip)
    with torch.no_grad():
        before(clip)
    assert torch.equal(maps[0][:, :3], maps[1][:, :3])
    assert not torch.allclose(maps[0][:, 3], maps[1][:, 3], atol=1e-3)


def test_perspective_head_runs_on_the_current_frame_alone() -> None:
    config = replace(
        temporal_config(),
        perspective=PerspectiveConfig(
            strides=(8, 16, 32),
            num_convs=1,
            norm="GN",
            norm_groups=4,
            canonical_size_m=((1.0, 1.0, 1.0),) * 3,
            mean_depth_m=(30.0, 20.0, 10.0),
            std_depth_m=(9.0, 9.0, 9.0),
            level_bounds_px=(16, 32),
        ),
    )
    model = build_model(config).train()
    counts: list[int] = []
    model.perspective_head.register_forward_pre_hook(
        lambda module, inputs: counts.append(len(inputs[0][0]))
    )
    output = model(make_drive(2, 4).clip(3, FRAMES))
    assert counts == [6]
    assert output.perspective.image.tolist() == list(range(6))
