from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.perspective import PerspectiveConfig
from bevstack.models.perspective.head import (
    PerspectiveHead,
    PerspectiveOutput,
    choose_images,
    ground_inverse_depth,
    level_locations,
)
from tests.models.bevformer_oracle import assert_close, read_case
from tests.models.perspective.perspective_cases import (
    SHAPES,
    SMALL,
    changed,
    published_head,
    published_output,
    some_intrinsics,
)
from tests.models.small_models import randomise

FIELDS = (
    "logits",
    "ltrb_px",
    "centerness",
    "quaternion",
    "center_offset_px",
    "depth",
    "size",
    "confidence",
    "attributes",
    "speed_mps",
)


def some_pyramid(images: int, *, channels: int = 12, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, channels, h, w, generator=generator) for h, w in SHAPES]


def some_head(config: PerspectiveConfig = SMALL, *, channels: int = 12) -> PerspectiveHead:
    torch.manual_seed(3)
    head = PerspectiveHead(config, channels=channels)
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return randomise(head, scale=0.05)


@pytest.mark.oracle("dd3d_head_eval")
def test_outputs_match_the_published_code() -> None:
    case = read_case("dd3d_head_eval")
    head = published_head(case).eval()
    with torch.no_grad():
        output = head(case.features("features", levels=5))
    wanted = published_output(case.outputs, [case.outputs[f"locations.{k}"] for k in range(5)])
    assert torch.equal(output.locations_px, wanted.locations_px)
    assert output.level_sizes == wanted.level_sizes
    for name in FIELDS:
        assert_close(getattr(output, name), getattr(wanted, name), case.tolerance)


def naive_tower(tower: nn.Module, x: Tensor, level: int) -> Tensor:
    for conv, norms in zip(tower.convs, tower.norms, strict=True):
        norm, channels = norms[level], x.shape[1]
        x = functional.conv2d(x, conv.weight, padding=1)
        for c in range(channels):
            scale = norm.weight[c] / (norm.running_var[c] + 1e-5).sqrt()
            x[:, c] = ((x[:, c] - norm.running_mean[c]) * scale + norm.bias[c]).clamp(min=0)
    return x


def naive_outputs(head: PerspectiveHead, feature: Tensor, level: int) -> dict[str, Tensor]:
    """Return the output maps of one image and level, before they are flattened."""

    def conv(name: str, x: Tensor) -> Tensor:
        predictor = getattr(head, name)
        padding = predictor.weight.shape[-1] // 2
        return functional.conv2d(x, predictor.weight, predictor.bias, padding=padding)

    a = naive_tower(head.class_tower, feature, level)
    b = naive_tower(head.box2d_tower, feature, level)
    c = naive_tower(head.box3d_tower, feature, level)
    return {
        "logits": conv("logits", a),
        "attributes": conv("attributes", a),
        "speed_mps": conv("speed", a).clamp(min=0),
        "ltrb_px": (conv("ltrb", b) * head.ltrb_scales[level]).clamp(min=0),
        "centerness": conv("centerness", b),
        "quaternion": conv("quaternion", c),
        "center_offset_px": conv("center_offset", c) * head.center_offset_scales[level],
        "depth": conv("depth", c) * head.depth_scales[level] + head.depth_offsets[level],
        "size": conv("size", c) * head.size_scales[level],
        "confidence": conv("confidence", c) * head.confidence_scales[level],
    }


@pytest.mark.parametrize(("images", "size"), [(1, 3), (2, 3), (3, 3), (2, 1)])
@torch.no_grad()
def test_outputs_equal_loops_over_images_levels_rows_and_classes(images: int, size: int) -> None:
    head, pyramid = some_head(replace(SMALL, predictor_size=size)), some_pyramid(images)
    output = head(pyramid)
    assert output.logits.shape == (images, 75, 4)
    assert (output.ltrb_px == 0).any() and (output.ltrb_px > 0).any()
    location = 0
    for level, (height, width) in enumerate(SHAPES):
        maps = [naive_outputs(head, pyramid[level][i : i + 1], level) for i in range(images)]
        for row, col in itertools.product(range(height), range(width)):
            at = [col * SMALL.strides[level], row * SMALL.strides[level]]
            assert output.locations_px[location].tolist() == at
            assert int(output.levels[location]) == level
            for i, name in itertools.product(range(images), FIELDS):
                channels = maps[i][name][0, :, row, col]
                got = getattr(output, name)[i, location]
                if got.dim() == 2:  # components major: channel = component * classes + class
                    channels = torch.stack(
                        [channels[d * 4 : d * 4 + 4] for d in range(got.shape[0])]
                    )
                torch.testing.assert_close(got, channels.reshape(got.shape), rtol=1e-4, atol=1e-4)
            location += 1
    assert location == output.locations_px.shape[0]


def test_a_level_normalises_with_its_own_statistics_alone() -> None:
    head = some_head().train()
    before = {k: v.clone() for k, v in head.state_dict().items() if "running_mean" in k}
    pyramid = some_pyramid(2)
    with torch.no_grad():
        head(pyramid)
    after = head.state_dict()
    assert all(not torch.equal(after[k], v) for k, v in before.items())
    for tower in (head.class_tower, head.box2d_tower, head.box3d_tower):
        for level in range(3):
            mean = functional.conv2d(
                pyramid[level], tower.convs[0].weight.detach(), padding=1
            ).mean((0, 2, 3))
            name = next(n for n, m in head.named_modules() if m is tower)
            key = f"{name}.norms.0.{level}.running_mean"
            torch.testing.assert_close(after[key], 0.9 * before[key] + 0.1 * mean)


def test_group_norm_sees_each_image_by_itself() -> None:
    head = some_head(replace(SMALL, norm="GN", norm_groups=4)).train()
    pyramid = some_pyramid(3)
    whole = head(pyramid)
    alone = head([level[1:2] for level in pyramid])
    for name in FIELDS:
        # convolutions of another batch size may sum in another order
        torch.testing.assert_close(
            getattr(whole, name)[1], getattr(alone, name)[0], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("norm", ["BN", "SyncBN", "GN"])
def test_no_image_gives_no_output_and_leaves_all_statistics(norm: str) -> None:
    head = some_head(replace(SMALL, norm=norm, norm_groups=4)).train()
    before = {k: v.clone() for k, v in head.state_dict().items()}
    output = head(some_pyramid(0))
    assert output.quaternion.shape == (0, 75, 4, 4)
    sum(getattr(output, name).sum() for name in FIELDS).backward()
    after = {k: v for k, v in head.state_dict().items() if "num_batches" not in k}
    assert all(torch.equal(v, before[k]) for k, v in after.items())
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


def test_recomputed_towers_learn_and_count_alike() -> None:
    results = []
    for checkpointed in (False, True):
        head = some_head(replace(SMALL, activation_checkpointing=checkpointed)).train()
        pyramid = [level.requires_grad_() for level in some_pyramid(2)]
        output = head(pyramid)
        sum((getattr(output, name) ** 2).sum() for name in FIELDS).backward()
        results.append(([level.grad for level in pyramid], list(head.state_dict().values())))
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_every_parameter_is_reached() -> None:
    head = some_head().train()
    output = head(some_pyramid(2))
    generator = torch.Generator().manual_seed(1)
    fields = [getattr(output, name) for name in FIELDS]
    sum((x * torch.rand(x.shape, generator=generator)).sum() for x in fields).backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


@pytest.mark.parametrize(("parity", "probability"), [(False, 0.01), (True, 0.5)])
def test_head_starts_as_described(parity: bool, probability: float) -> None:
    head = PerspectiveHead(PerspectiveConfig(official_parity=parity), channels=32).eval()
    torch.testing.assert_close(head.logits.bias.sigmoid(), torch.full((10,), probability))
    with torch.no_grad():
        output = head([torch.zeros(1, 32, 2, 2)] * 5)  # zero features: biases and offsets alone
    depth = output.depth.view(5, 4, 10)
    wanted = torch.tensor(PerspectiveConfig().mean_depth_m)
    torch.testing.assert_close(depth, wanted[:, None, None].expand(5, 4, 10))
    assert [s.item() for s in head.ltrb_scales] == [8, 16, 32, 64, 128]
    assert head.depth_scales[2].item() == pytest.approx(0.3 * 6.223)
    assert head.depth.bias is None and not head.quaternion.bias.any()
    deviation = head.class_tower.convs[1].weight.detach().std()
    assert float(deviation) == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)  # 9,216 draws


def test_half_precision_convolutions_give_whole_depths() -> None:
    head, pyramid = some_head(), some_pyramid(2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = head(pyramid)
    with torch.no_grad():
        whole = head(pyramid)
    assert all(getattr(half, name).dtype == torch.float32 for name in FIELDS)
    # eight bits in about four layers of unit size: a few hundredths of the depth's deviation
    assert float((half.depth - whole.depth).abs().max()) < 0.05 * max(SMALL.std_depth_m)


def test_chosen_images_are_those_of_the_mask_sample_by_sample() -> None:
    pyramid = [torch.randn(2, 3, 4, h, w) for h, w in SHAPES]
    chosen = torch.tensor(((False, True, True), (True, False, False)))
    got = choose_images(pyramid, chosen)
    for level, features in zip(got, pyramid, strict=True):
        wanted = torch.stack((features[0, 1], features[0, 2], features[1, 0]))
        assert torch.equal(level, wanted)
    none = choose_images(pyramid, torch.zeros(2, 3, dtype=torch.bool))
    assert none[0].shape == (0, 4, 6, 9)
    with pytest.raises(ValueError, match=r"chosen must have shape \(2, 3\)"):
        choose_images(pyramid, chosen[0])


def test_locations_follow_rows_then_levels() -> None:
    got = level_locations([(2, 3), (1, 2)], [8, 16], device="cpu")
    wanted = [(0, 0), (8, 0), (16, 0), (0, 8), (8, 8), (16, 8), (0, 0), (16, 0)]
    assert got.tolist() == [list(map(float, p)) for p in wanted]


def test_head_is_described_without_memory() -> None:
    with torch.device("meta"):
        head = PerspectiveHead(PerspectiveConfig(), channels=256)
        output = head([torch.zeros(6, 256, 4, 5)] * 5)
    assert isinstance(output, PerspectiveOutput)
    assert output.logits.device.type == "meta"


def test_wrong_pyramids_and_groups_are_refused() -> None:
    head = some_head()
    with pytest.raises(ValueError, match=r"pyramid must have a level .* got 2 levels: set fpn"):
        head(some_pyramid(1)[:2])
    with pytest.raises(ValueError, match=r"norm_groups must divide fpn.channels = 12; got 5"):
        PerspectiveHead(replace(SMALL, norm="GN", norm_groups=5), channels=12)


def naive_ground(location: Tensor, intrinsics: Tensor, bev_from_cam: Tensor, z: float) -> float:
    """Return the inverse depth where a pixel's ray meets the ground plane."""
    ray = torch.linalg.inv(intrinsics) @ torch.tensor((*location.tolist(), 1.0)).double()
    origin, direction = bev_from_cam[:3, 3], bev_from_cam[:3, :3] @ ray
    depth = (z - origin[2]) / direction[2]  # the direction has a depth of one metre
    assert float((origin + depth * direction)[2]) == pytest.approx(z)
    return float(1 / depth)


def test_ground_is_where_rays_meet_it() -> None:
    generator = torch.Generator().manual_seed(4)
    turn = torch.linalg.qr(torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)).Q
    poses = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    poses[:, :3, :3] = turn
    poses[:, :3, 3] = torch.tensor(((1.0, 2.0, 1.5), (0.0, -1.0, 2.2), (3.0, 0.0, 0.4)))
    intrinsics = some_intrinsics(3)
    locations = level_locations(SHAPES, SMALL.strides, device="cpu")
    got = ground_inverse_depth(locations, torch.linalg.inv(intrinsics), poses, ground_z_m=-0.3)
    for camera, row in itertools.product(range(3), range(len(locations))):
        wanted = naive_ground(locations[row], intrinsics[camera], poses[camera], -0.3)
        assert float(got[camera, row]) == pytest.approx(wanted, rel=1e-5, abs=1e-7)


def grounded(**changes: object) -> PerspectiveConfig:
    return replace(changed(SMALL, ground_z_m=0.0), **changes)


def some_ground(images: int) -> list[Tensor]:
    """Return the ground of a camera 1.5 m above it, with the horizon inside the image."""
    rows = [torch.arange(h) * s for (h, _), s in zip(SHAPES, SMALL.strides, strict=True)]
    return [
        ((row - 12.5) / (60 * 1.5))[None, :, None].expand(images, -1, w).float()
        for row, (_, w) in zip(rows, SHAPES, strict=True)
    ]


@torch.no_grad()
def test_depths_are_predicted_relative_to_the_ground() -> None:
    head, pyramid, ground = some_head(grounded()), some_pyramid(2), some_ground(2)
    output = head(pyramid, ground)
    assert (output.depth > 0).all() and output.depth.isfinite().all()
    for level, (height, width) in enumerate(SHAPES):
        channels = torch.stack((10 * ground[level], 0.5 * ground[level].clamp(0.01).log() + 1.5), 1)
        features = pyramid[level] + torch.einsum(
            "oc,ichw->iohw", head.ground.weight[..., 0, 0], channels
        )
        raw = naive_outputs(head, features + head.ground.bias[:, None, None], level)["depth"]
        start = sum(h * w for h, w in SHAPES[:level])
        got = output.depth[:, start : start + height * width].unflatten(1, (height, width))
        inverse = (100 * (raw + ground[level][:, None])).exp().add(1).log() / 100
        inverse = inverse.clamp(min=0.001)  # a kilometre
        torch.testing.assert_close(1 / got, inverse.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4)


def test_the_same_output_means_ground_contact_equally_far_below_anywhere() -> None:
    """Initially the predicted depth is that of the ground a constant distance below."""
    head = PerspectiveHead(grounded(norm="GN", norm_groups=4), channels=12).eval()
    nn.init.zeros_(head.depth.weight)
    ground = some_ground(1)
    with torch.no_grad():
        depth = head(some_pyramid(1), ground).depth[0, : SHAPES[0][0] * SHAPES[0][1], 0]
    step = ground[0][0, 1, 0] - ground[0][0, 0, 0]
    inverse = (1 / depth).unflatten(0, SHAPES[0])
    torch.testing.assert_close(inverse[4:] - inverse[3:-1], step.expand(2, 9), rtol=0.02, atol=0)


def test_ground_is_given_if_and_only_if_the_configuration_has_one() -> None:
    reason = r"because perspective.small_images.ground_z_m is"
    with pytest.raises(ValueError, match=rf"ground must be given, {reason} 0.0; got None"):
        some_head(grounded())(some_pyramid(1))
    with pytest.raises(ValueError, match=rf"ground must be None, {reason} None; got a tensor"):
        some_head()(some_pyramid(1), some_ground(1))


def test_every_parameter_is_reached_above_ground() -> None:
    head = some_head(grounded()).train()
    output = head(some_pyramid(2), some_ground(2))
    generator = torch.Generator().manual_seed(1)
    fields = [getattr(output, name) for name in FIELDS]
    sum((x * torch.rand(x.shape, generator=generator)).sum() for x in fields).backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def test_what_lies_beyond_all_depths_has_gradients() -> None:
    head = some_head(grounded())
    ground = [level - 3.0 for level in some_ground(1)]  # softplus is 0 in float32
    output = head(some_pyramid(1), ground)
    output.depth.clamp(max=80).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())
