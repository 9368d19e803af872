from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bevstack.config.internimage import (
    INTERNIMAGE_VARIANTS,
    InternImageConfig,
    classification_config,
    detection_config,
)
from bevstack.models.backbones import dcnv3_layer
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.layers.drop_path import DropPath
from tests.models.backbones import internimage_naive

SMALL = InternImageConfig(channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8), drop_path_rate=0.0)
# Between them these take every flag to both of its values.
FLAGS = {
    "pre_norm": SMALL,
    "layer_scale_batch_norm": replace(SMALL, layer_scale=0.5, norm_layer="BN", act_layer="SiLU"),
    "sync_batch_norm": replace(SMALL, norm_layer="SyncBN"),
    "group_norm": replace(SMALL, norm_layer="GN", norm_groups=4, act_layer="ReLU"),
    "post_norm": replace(SMALL, post_norm=True, layer_scale=1e-5, offset_scale=2.0),
    "like_g": replace(
        SMALL,
        post_norm=True,
        center_feature_scale=True,
        dw_kernel_size=5,
        level2_post_norm_block_ids=(1,),
    ),
    "like_h": replace(
        SMALL,
        res_post_norm=True,
        center_feature_scale=True,
        dw_kernel_size=5,
        level2_post_norm_block_ids=(0, 1),
    ),
    "without_centre": replace(
        SMALL, remove_center=True, act_layer="ReLU", mlp_ratio=1.5, groups=(2, 2, 8, 4)
    ),
}


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Set random weights, statistics and scales, so that no term is zero or one."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        v = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            v = 1 + 0.2 * v.abs()
        elif tensor.dim() == 1:
            v = 0.3 * v + float(name.endswith(("weight", "gamma1", "gamma2")))
        else:
            v = v / tensor[0].numel() ** 0.5
        tensor.copy_(v)
    return model


def images_of(*shape: int, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def backbone(config: InternImageConfig) -> InternImage:
    return randomise(InternImage(config).double().eval())


@pytest.mark.parametrize("flags", FLAGS)
def test_network_equals_its_formulas_written_out(flags: str) -> None:
    config = FLAGS[flags]
    model, images = backbone(config), images_of(2, 3, 22, 13)
    with torch.no_grad():
        got = model(images)
    wanted = internimage_naive.stages(images, dict(model.state_dict()), config)
    assert len(got) == len(wanted) == 4
    for ours, naive in zip(got, wanted, strict=True):
        # Two float64 evaluations in different order, on values of order 1 to 10.
        torch.testing.assert_close(ours, naive, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 2), (47, 65), (64, 31)])
def test_any_image_size_halves_rounding_up(size: tuple[int, int]) -> None:
    height, width = size
    stages = backbone(SMALL)(images_of(1, 3, height, width))
    for index, stage in enumerate(stages):
        step = 4 << index
        assert stage.shape == (1, 16 << index, -(-height // step), -(-width // step))
        assert stage.is_contiguous()
        assert stage.isfinite().all()


@pytest.mark.parametrize("flags", FLAGS)
def test_batch_of_two_equals_two_batches_of_one(flags: str) -> None:
    model, images = backbone(FLAGS[flags]), images_of(2, 3, 35, 50)
    together = model(images)
    for index in (0, 1):
        alone = model(images[index : index + 1])
        for stage, single in zip(together, alone, strict=True):
            # Matrix products may be blocked differently for another number of rows.
            torch.testing.assert_close(stage[index : index + 1], single, rtol=0, atol=1e-12)


def test_empty_batch_gives_empty_maps() -> None:
    stages = backbone(SMALL)(images_of(0, 3, 32, 48))
    assert [tuple(s.shape) for s in stages] == [
        (0, 16, 8, 12),
        (0, 32, 4, 6),
        (0, 64, 2, 3),
        (0, 128, 1, 2),
    ]


def test_memory_layout_of_the_images_does_not_matter_and_they_stay_unchanged() -> None:
    model, images = backbone(SMALL), images_of(2, 3, 17, 30)
    before = images.clone()
    plain = model(images)
    other = model(images.to(memory_format=torch.channels_last))
    assert torch.equal(images, before)
    for a, b in zip(plain, other, strict=True):
        assert torch.equal(a, b)


def test_out_indices_choose_stages_and_later_ones_do_not_run() -> None:
    images = images_of(1, 3, 40, 24)
    model = backbone(SMALL)
    every = model(images)
    chosen = InternImage(replace(SMALL, out_indices=(0, 2))).double().eval()
    chosen.load_state_dict(model.state_dict())
    chosen.levels[3].register_forward_hook(lambda *_: pytest.fail("stage 4 ran"))
    got = chosen(images)
    assert chosen.out_channels == (16, 64)
    assert chosen.out_strides == (4, 16)
    assert len(got) == 2
    assert torch.equal(got[0], every[0])
    assert torch.equal(got[1], every[2])


def gradients(model: InternImage, images: Tensor) -> dict[str, Tensor]:
    images = images.clone().requires_grad_()
    sum((stage * stage).mean() for stage in model(images)).backward()
    return {"images": images.grad, **{n: p.grad for n, p in model.named_parameters()}}


@pytest.mark.parametrize("flags", ["pre_norm", "like_g"])
def test_activation_checkpointing_gives_the_same_gradients(flags: str) -> None:
    config = replace(FLAGS[flags], drop_path_rate=0.5)
    images = images_of(3, 3, 33, 22)
    results = []
    for checkpointing in (False, True):
        model = InternImage(replace(config, activation_checkpointing=checkpointing)).double()
        calls: list[int] = []
        randomise(model).train()
        model.levels[0].blocks[0].register_forward_pre_hook(lambda *_, c=calls: c.append(1))
        torch.manual_seed(7)  # the same samples are dropped
        results.append(gradients(model, images))
        assert len(calls) == 1 + checkpointing  # the layer is recomputed
    assert results[0].keys() == results[1].keys()
    for name, gradient in results[0].items():
        assert torch.equal(gradient, results[1][name]), name


def test_frozen_stages_stay_as_they_are_while_the_rest_trains() -> None:
    config = replace(SMALL, frozen_stages=2, drop_path_rate=0.9, drop_path_type="uniform")
    model = InternImage(config).train()
    frozen = [model.levels[0], model.levels[1]]
    moving = [model.patch_embed, model.levels[2], model.levels[3]]
    for stage in frozen:
        assert not any(p.requires_grad for p in stage.parameters())
        assert not any(m.training for m in stage.modules())
    for part in moving:
        assert all(p.requires_grad for p in part.parameters())
        assert part.training
    assert not model.eval().levels[2].training


def test_drop_path_grows_from_zero_over_all_layers() -> None:
    model = InternImage(replace(SMALL, drop_path_rate=0.4))
    rates = [block.drop_path.rate for stage in model.levels for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    uniform = InternImage(replace(SMALL, drop_path_rate=0.4, drop_path_type="uniform"))
    assert {m.rate for m in uniform.modules() if isinstance(m, DropPath)} == {0.4}


def test_new_layers_start_where_the_released_code_starts_them() -> None:
    torch.manual_seed(0)
    config = replace(SMALL, channels=64, groups=(4, 8, 16, 32), center_feature_scale=True)
    block = InternImage(replace(config, layer_scale=1e-5)).levels[2].blocks[0]
    for head in (block.dcn.offset, block.dcn.mask, block.dcn.center_feature_scale):
        assert not head.weight.any()
        assert not head.bias.any()
    assert torch.equal(block.gamma1, torch.full((256,), 1e-5))
    for linear in (block.mlp.fc1, block.mlp.fc2):
        # 262144 draws: the standard deviation is within 1 % of 0.02 (five standard errors).
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.01)
        assert not linear.bias.any()
    bound = (6 / 512) ** 0.5
    for projection in (block.dcn.input_proj, block.dcn.output_proj):
        assert projection.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert not projection.bias.any()


@pytest.mark.parametrize("name", INTERNIMAGE_VARIANTS)
def test_every_published_size_runs_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        model = InternImage(detection_config(name)).eval()
        stages = model(torch.empty(2, 3, 97, 130))
    assert [s.device.type for s in stages] == ["meta"] * 4
    assert [tuple(s.shape[2:]) for s in stages] == [(25, 33), (13, 17), (7, 9), (4, 5)]
    assert tuple(s.shape[1] for s in stages) == model.out_channels


@pytest.mark.parametrize(
    ("name", "classification", "detection"),
    [
        ("internimage_t", (0.1, None), (0.2, 1.0)),
        ("internimage_s", (0.4, 1e-5), (0.3, 1.0)),
        ("internimage_b", (0.5, 1e-5), (0.4, 1.0)),
        ("internimage_l", (0.1, 1e-5), (0.4, 1.0)),
        ("internimage_xl", (0.2, 1e-5), (0.4, 1.0)),
        ("internimage_h", (0.2, None), (0.5, None)),
        ("internimage_g", (0.4, None), (0.5, None)),
    ],
)
def test_settings_differ_in_drop_path_and_layer_scale_alone(
    name: str, classification: tuple[float, float | None], detection: tuple[float, float | None]
) -> None:
    ours = classification_config(name), detection_config(name)
    assert (ours[0].drop_path_rate, ours[0].layer_scale) == classification
    assert (ours[1].drop_path_rate, ours[1].layer_scale) == detection
    rate, scale = detection
    assert replace(ours[0], drop_path_rate=rate, layer_scale=scale) == ours[1]
    per_group = 32 if name in ("internimage_h", "internimage_g") else 16
    assert all(
        channels == groups * per_group
        for channels, groups in zip(ours[1].stage_channels, ours[1].groups, strict=True)
    )


def test_autocast_keeps_the_stages_close_to_float32() -> None:
    model = backbone(SMALL).float()
    images = images_of(1, 3, 40, 56).float()
    exact = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = model(images)
    for a, b in zip(exact, lowered, strict=True):
        # bfloat16 keeps 8 bits; over 10 residual branches of order 1 that is a few percent.
        assert (a - b.float()).norm() / a.norm() < 0.05


def test_images_of_a_wrong_shape_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"images must have shape \(B, 3, H, W\); got \(3, 8, 8\)"):
        InternImage(SMALL)(torch.zeros(3, 8, 8))


def test_operator_is_called_once_a_layer_with_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    operator = dcnv3_layer.dcnv3

    def recording(*tensors: Tensor, softmax: bool, **options: object) -> Tensor:
        seen.append(softmax)
        return operator(*tensors, softmax=softmax, **options)

    monkeypatch.setattr(dcnv3_layer, "dcnv3", recording)
    backbone(SMALL)(images_of(1, 3, 16, 16))
    assert seen == [True] * sum(SMALL.depths)
