from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.resnet import ResNetConfig
from bevstack.models.backbones.fpn import FPN
from bevstack.models.backbones.resnet import ResNet
from tests.models.bevformer_oracle import assert_close, load_published, read_case


def oracle_detector() -> nn.ModuleDict:
    case = read_case("resnet_fpn_eval")
    config = ResNetConfig(base_channels=case.cfg["base_channels"])
    backbone = ResNet(config)
    neck = FPN(backbone.out_channels, num_outputs=5, channels=case.cfg["fpn_out"])
    model = nn.ModuleDict({"backbone": backbone, "neck": neck})
    load_published(model, case.weights, published="", ours="")
    return model


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.oracle(name))
        for name in ("resnet_fpn_eval", "resnet_fpn_train")
    ],
)
def test_backbone_and_pyramid_match_the_published_code(name: str) -> None:
    case = read_case(name)
    model = oracle_detector().train(name.endswith("train"))
    maps = model["backbone"](case.inputs["img"].float())
    for level, got in enumerate(maps):
        assert_close(got, case.outputs[f"C.{level}"], case.tolerance)
    for level, got in enumerate(model["neck"](maps)):
        assert_close(got, case.outputs[f"P.{level}"], case.tolerance)


def small_resnet(depth: int = 50, **fields: object) -> ResNet:
    torch.manual_seed(0)
    config = ResNetConfig(depth=depth, base_channels=3, norm="BN", **fields)
    model = ResNet(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # scales and shifts of the norms
                parameter.copy_(torch.rand_like(parameter) + 0.1)
        for name, buffer in model.named_buffers():
            if name.endswith(("mean", "var")):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model


def by_formula(model: ResNet, images: Tensor, strides: tuple[int, ...]) -> list[Tensor]:
    """Compute C2 to C5 from the state dict, with strides on each stage's first 1x1 convolution."""
    weights = model.state_dict()

    def conv(x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        return functional.conv2d(x, weights[name + ".weight"], stride=stride, padding=padding)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, scale, shift = (
            weights[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = norm(conv(images, "conv1", 2, 3), "bn1").clamp(min=0)
    x = functional.pad(x, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 2).unfold(3, 3, 2)
    x = x.amax((-1, -2))
    maps = []
    for stage, blocks in enumerate(model.config.stage_blocks):
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}."
            stride = strides[stage] if block == 0 else 1
            short = x
            if block == 0:
                short = norm(conv(x, name + "downsample.0", stride), name + "downsample.1")
            x = norm(conv(x, name + "conv1", stride), name + "bn1").clamp(min=0)
            x = norm(conv(x, name + "conv2", 1, 1), name + "bn2").clamp(min=0)
            x = (norm(conv(x, name + "conv3"), name + "bn3") + short).clamp(min=0)
        maps.append(x)
    return maps


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_maps_equal_the_formula_on_odd_sizes(batch: int) -> None:
    model = small_resnet(out_indices=(0, 1, 2, 3)).eval()
    images = torch.randn(batch, 3, 67, 45, dtype=torch.float64)
    with torch.no_grad():
        got = model(images)
        wanted = by_formula(model, images, strides=(1, 2, 2, 2))
    assert [tuple(m.shape[1:]) for m in got] == [(12, 17, 12), (24, 9, 6), (48, 5, 3), (96, 3, 2)]
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_only_configured_stages_are_returned_and_later_ones_not_run() -> None:
    model = small_resnet(out_indices=(0, 2)).eval()
    whole = small_resnet(out_indices=(0, 1, 2, 3)).eval()
    images = torch.randn(1, 3, 33, 40, dtype=torch.float64)
    model.layer4.register_forward_hook(lambda *_: pytest.fail("the last stage ran"))
    model.layer4[0].register_forward_hook(lambda *_: pytest.fail("the last stage ran"))
    got, every = model(images), whole(images)
    assert len(got) == 2
    assert torch.equal(got[0], every[0])
    assert torch.equal(got[1], every[2])
    assert model.out_channels == (12, 48)
    assert model.out_strides == (4, 16)


@pytest.mark.parametrize(("depth", "count"), [(50, 23_508_032), (101, 42_500_160)])
def test_number_of_parameters_is_the_published_one(depth: int, count: int) -> None:
    with torch.device("meta"):
        model = ResNet(ResNetConfig(depth=depth))
    assert sum(p.numel() for p in model.parameters()) == count


def test_blocks_start_as_the_identity_and_norms_in_training_use_the_batch() -> None:
    torch.manual_seed(1)
    model = ResNet(ResNetConfig(base_channels=2, norm="BN"))
    block = model.layer2[1]
    x = torch.rand(2, 16, 5, 3)
    assert torch.equal(block(x), x)
    assert not torch.equal(block.bn1.running_mean, torch.zeros(4))


def test_checkpointing_changes_neither_values_nor_gradients_nor_statistics() -> None:
    images = torch.randn(2, 3, 32, 40, dtype=torch.float64)
    kept, again = small_resnet(), small_resnet(activation_checkpointing=True)
    for model in (kept, again):
        sum(m.square().sum() for m in model.train()(images)).backward()
    for (name, ours), theirs in zip(again.named_parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    for (name, ours), theirs in zip(again.named_buffers(), kept.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=name)
    assert int(again.layer1[0].bn1.num_batches_tracked) == 1


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must have shape \(B, 3, H, W\)"):
        small_resnet()(torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize("training", [True, False])
def test_backbone_compiles_to_one_graph(training: bool) -> None:
    model = small_resnet().train(training)
    images = torch.randn(2, 3, 37, 50, dtype=torch.float64)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for got, wanted in zip(compiled(images), model(images), strict=True):
        torch.testing.assert_close(got, wanted)
