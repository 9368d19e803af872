from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config.temporal import TemporalConfig
from bevstack.models.temporal.fusion import TemporalFusion, fill_missing, source_slots
from tests.models.bevformer_oracle import assert_close, load_published, read_case
from tests.models.small_models import randomise


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.oracle(name))
        for name in ("resnet_fusion_eval", "resnet_fusion_train")
    ],
)
def test_fused_map_and_gradients_match_the_published_code(name: str) -> None:
    case = read_case(name)
    config = TemporalConfig(
        num_fusion=case.cfg["num_layer"], inter_channels=case.cfg["inter_channels"]
    )
    fusion = TemporalFusion(config, channels=case.cfg["out_channels"], frames=(-2, -1, 0))
    load_published(
        fusion, case.weights, published="pts_bbox_head.transformer.fusion.", ours="fusion."
    )
    fusion.train(name.endswith("train"))
    maps = torch.stack([case.inputs[f"x.{t}"] for t in range(3)], 1).requires_grad_()
    fused = fusion.fuse(maps)
    assert_close(fused.flatten(2).transpose(1, 2), case.outputs["output"], case.tolerance)
    fused.backward(case.inputs["grad_out"].transpose(1, 2).reshape(fused.shape))
    for t in range(3):
        assert_close(maps.grad[:, t], case.outputs[f"grad_x.{t}"], case.tolerance)


def filled_by_loop(slots: list[object], valid: list[bool], current: int) -> list[object]:
    """Fill missing frames as in step 2 of section 6 of the specification."""
    filled = list(slots)
    for t in range(current - 1, -1, -1):
        if not valid[t]:
            filled[t] = filled[t + 1]
    for t in range(current + 1, len(slots)):
        if not valid[t]:
            filled[t] = filled[t - 1]
    return filled


@pytest.mark.parametrize(("frames", "current"), [(1, 0), (2, 1), (4, 3), (5, 2), (3, 0)])
def test_every_pattern_of_missing_frames_is_filled_as_the_loop_does(
    frames: int, current: int
) -> None:
    patterns = [list(p) for p in itertools.product((False, True), repeat=frames)]
    got = source_slots(torch.tensor(patterns), current)  # every pattern a row of one batch
    for row, pattern in zip(got.tolist(), patterns, strict=True):
        assert row == filled_by_loop(list(range(frames)), pattern, current)


@pytest.mark.parametrize("batch", [0, 1, 2, 3])
def test_rows_are_filled_independently_and_missing_maps_are_not_read(batch: int) -> None:
    generator = torch.Generator().manual_seed(batch)
    maps = torch.randn(batch, 4, 2, 3, 5, generator=generator)
    valid = torch.rand(batch, 4, generator=generator) < 0.5
    valid[:, 2] = True
    maps[~valid] = torch.nan
    filled = fill_missing(maps, valid, 2)
    assert not filled.isnan().any()
    for b in range(batch):
        wanted = filled_by_loop(list(maps[b]), valid[b].tolist(), 2)
        assert torch.equal(filled[b], torch.stack(wanted))


@pytest.mark.parametrize("missing", [(), (0,), (0, 1, 3)])
def test_only_the_current_map_carries_gradient(missing: tuple[int, ...]) -> None:
    maps = torch.randn(2, 4, 3, 2, 5, requires_grad=True)
    valid = torch.ones(2, 4, dtype=torch.bool)
    valid[:, list(missing)] = False
    weight = torch.randn(2, 4, 3, 2, 5)
    (fill_missing(maps, valid, 2) * weight).sum().backward()
    assert torch.equal(maps.grad[:, 2], weight[:, 2])  # copies in other slots add nothing
    assert not maps.grad[:, (0, 1, 3)].any()


def small_fusion(
    inter: int | None = None, blocks: int = 2, seed: int = 0, norm: str = "BN"
) -> TemporalFusion:
    torch.manual_seed(seed)
    config = TemporalConfig(num_fusion=blocks, inter_channels=inter, norm=norm, norm_groups=2)
    fusion = TemporalFusion(config, channels=3, frames=(-7, -1, 0, 2)).double()
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in fusion.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return randomise(fusion, seed=seed)


def fused_by_formula(fusion: TemporalFusion, maps: Tensor) -> Tensor:
    """Compute steps 3 to 5 of section 6 in evaluation, from the state dict."""
    weights = fusion.state_dict()

    def conv_norm(x: Tensor, conv: str, norm: str) -> Tensor:
        x = functional.conv2d(x, weights[conv + ".weight"], padding=1)
        if f"{norm}.running_mean" not in weights:  # two groups of channels, image by image
            parts = [
                [(g - g.mean()) / (g.var(correction=0) + 1e-5).sqrt() for g in image.chunk(2)]
                for image in x
            ]
            x = torch.stack([torch.cat(groups) for groups in parts])
            scale, shift = weights[f"{norm}.weight"], weights[f"{norm}.bias"]
            return x * scale[:, None, None] + shift[:, None, None]
        mean, var, scale, shift = (
            weights[f"{norm}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = torch.cat(list(maps.unbind(1)), 1)
    for index in range(len(fusion.blocks)):
        name = f"blocks.{index}."
        short = x
        if f"{name}downsample.0.weight" in weights:
            short = conv_norm(x, f"{name}downsample.0", f"{name}downsample.1")
        x = conv_norm(x, f"{name}conv1", f"{name}bn1").clamp(min=0)
        x = (conv_norm(x, f"{name}conv2", f"{name}bn2") + short).clamp(min=0)
    out = torch.empty(maps.shape[0], 3, *maps.shape[-2:], dtype=maps.dtype)
    for row in range(maps.shape[-2]):
        for column in range(maps.shape[-1]):
            y = x[:, :, row, column] @ weights["linear.weight"].T + weights["linear.bias"]
            y = y - y.mean(1, keepdim=True)
            y = y / (y.square().mean(1, keepdim=True) + 1e-5).sqrt()
            out[:, :, row, column] = y * weights["norm.weight"] + weights["norm.bias"]
    return out


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize(("inter", "norm"), [(None, "BN"), (5, "BN"), (None, "GN"), (6, "GN")])
def test_fusion_equals_its_formula(batch: int, inter: int | None, norm: str) -> None:
    fusion = small_fusion(inter, seed=batch, norm=norm)
    assert (fusion.blocks[0].downsample is None) is (inter is None)
    maps = torch.randn(batch, 4, 3, 5, 7, dtype=torch.float64)
    valid = torch.ones(batch, 4, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(fusion(maps, valid), fused_by_formula(fusion, maps))


def test_a_batch_with_different_missing_frames_equals_one_by_one() -> None:
    fusion = small_fusion(5)
    maps = torch.randn(3, 4, 3, 5, 7, dtype=torch.float64)
    valid = torch.tensor(
        ((True, False, True, False), (False, True, True, True), (False, False, True, False))
    )
    together = fusion(maps, valid)
    for b in range(3):
        alone = fusion(maps[b : b + 1], valid[b : b + 1])
        torch.testing.assert_close(together[b], alone[0])
    start = maps[2:, 2:3].expand(-1, 4, -1, -1, -1)  # the current map in every slot
    torch.testing.assert_close(together[2:], fusion.fuse(start))


def test_checkpointing_changes_neither_gradients_nor_statistics() -> None:
    maps = torch.randn(2, 4, 3, 5, 7, dtype=torch.float64)
    valid = torch.ones(2, 4, dtype=torch.bool)
    kept, again = small_fusion(5).train(), small_fusion(5).train()
    again.activation_checkpointing = True
    for fusion in (kept, again):
        fusion(maps, valid).square().sum().backward()
    for (name, ours), theirs in zip(again.named_parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    for (name, ours), theirs in zip(again.named_buffers(), kept.buffers(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    ("frames", "inter", "count"), [((-1, 0), None, 14_293_760), (range(-7, 1), 512, 30_809_856)]
)
def test_number_of_parameters_is_the_published_one(
    frames: tuple[int, ...], inter: int | None, count: int
) -> None:
    with torch.device("meta"):
        fusion = TemporalFusion(TemporalConfig(inter_channels=inter), channels=256, frames=frames)
    assert sum(p.numel() for p in fusion.parameters()) == count


@pytest.mark.parametrize("frames", [(0,), (-1, 1), (0, -1), (0, 0)])
def test_frames_must_ascend_about_the_current_one(frames: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frames must ascend and hold 0 and another offset"):
        TemporalFusion(TemporalConfig(), channels=3, frames=frames)


def test_wrong_shapes_are_refused() -> None:
    fusion = small_fusion()
    with pytest.raises(ValueError, match=r"maps must have shape \(B, 4, C, Y, X\)"):
        fusion(torch.zeros(1, 3, 3, 2, 2).double(), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"valid must have shape \(B=1, T=4\)"):
        fusion(torch.zeros(1, 4, 3, 2, 2).double(), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="current must be one of the 3 slots"):
        source_slots(torch.ones(1, 3, dtype=torch.bool), 3)


def test_one_graph_serves_every_pattern_of_missing_frames() -> None:
    fusion = small_fusion(5)
    maps = torch.randn(2, 4, 3, 5, 7, dtype=torch.float64)
    patterns = torch.tensor(((True, False, True, False), (False, True, True, True)))
    torch.compiler.reset()
    compiled = torch.compile(fusion, backend="eager", fullgraph=True)
    exported = torch.export.export(fusion, (maps, patterns)).module()
    for valid in (patterns, patterns.flip(0), torch.ones_like(patterns)):
        with torch.compiler.set_stance("fail_on_recompile" if valid is not patterns else "default"):
            torch.testing.assert_close(compiled(maps, valid), fusion(maps, valid))
        torch.testing.assert_close(exported(maps, valid), fusion(maps, valid))


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="norm_groups must divide the blocks' 5 channels; got 2"):
        small_fusion(5, norm="GN")
