"""Integration of dcnv3 in torch: layouts, autograd, compilation, autocast, wrong input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bevstack import ops
from tests.ops.calls import TOLERANCE, assert_close, values_and_gradients
from tests.ops.test_dcnv3 import NAMES, Options, make_case, options


def test_tensors_need_not_be_contiguous(device: torch.device) -> None:
    case = make_case(size=(4, 6), depth=16)
    *tensors, grad_output = case.to(torch.float32, device)

    def channels_first(tensor: Tensor) -> Tensor:
        return tensor.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)

    got = values_and_gradients(
        "dispatched",
        "dcnv3",
        [channels_first(t) for t in tensors],
        channels_first(grad_output),
        **case.options,
    )
    wider = [torch.cat((t, t), dim=-1)[..., : t.shape[-1]] for t in tensors]
    also = values_and_gradients("dispatched", "dcnv3", wider, grad_output, **case.options)
    wanted = case.wanted()
    assert_close(got, wanted, TOLERANCE[torch.float32], NAMES)
    assert_close(also, wanted, TOLERANCE[torch.float32], NAMES)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("depth", [3, 16])
def test_gradcheck(depth: int, softmax: bool, device: torch.device) -> None:
    # The function is smooth only between integers: positions are kept 0.15 away from them.
    case = make_case(size=(3, 4), batch=1, depth=depth, softmax=softmax)
    values, offset, mask, _ = case.to(torch.float64, device)
    offset = offset.round() + (offset - offset.round()) * 0.7
    tensors = [t.requires_grad_() for t in (values, offset, mask)]
    assert torch.autograd.gradcheck(lambda *t: ops.dcnv3(*t, **case.options), tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype: torch.dtype, device: torch.device) -> None:
    case = make_case(size=(4, 6), softmax=True, remove_center=True)
    values, offset, mask, grad_output = case.to(torch.float32, device)
    values = values.to(dtype)
    leaves = tuple(t.requires_grad_() for t in (values, offset, mask))
    torch.library.opcheck(torch.ops.bevstack.dcnv3, leaves, case.options)
    arguments = (grad_output.to(dtype), *(t.detach() for t in leaves))
    torch.library.opcheck(torch.ops.bevstack.dcnv3_backward, arguments, case.options)


def test_second_derivatives_are_refused() -> None:
    case = make_case()
    leaves = [t.requires_grad_() for t in case.to(torch.float64)[:3]]
    output = ops.dcnv3(*leaves, **case.options)
    (first,) = torch.autograd.grad(output.square().sum(), leaves[:1], create_graph=True)
    with pytest.raises(NotImplementedError, match="dcnv3 cannot be differentiated twice"):
        first.sum().backward()


class Layer(torch.nn.Module):
    def __init__(self, chosen: Options) -> None:
        super().__init__()
        self.chosen = chosen

    def forward(self, values: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return ops.dcnv3(values * 2, offset, mask, **self.chosen).relu()


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_as_one_graph(dynamic: bool, device: torch.device) -> None:
    layer = Layer(options(softmax=True))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for size, batch in (((5, 7), 2), ((4, 9), 3)):
        case = make_case(size=size, batch=batch, softmax=True)
        leaves = [t.requires_grad_() for t in case.to(torch.float32, device)[:3]]
        eager = layer(*leaves)
        output = compiled(*leaves)
        assert torch.equal(output, eager)
        grads = torch.autograd.grad(output.sum(), leaves)
        for got, wanted in zip(grads, torch.autograd.grad(eager.sum(), leaves), strict=True):
            assert torch.equal(got, wanted)


def test_exports(device: torch.device) -> None:
    case = make_case()
    tensors = case.to(torch.float32, device)[:3]
    layer = Layer(case.options)
    program = torch.export.export(layer, tensors)
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert torch.ops.bevstack.dcnv3.default in called
    assert torch.equal(program.module()(*tensors), layer(*tensors))


def test_autocast_lowers_only_the_input(device: torch.device) -> None:
    case = make_case(depth=16)
    values, offset, mask, _ = case.to(torch.float32, device)
    wanted = ops.dcnv3(values.bfloat16(), offset, mask, **case.options)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output = ops.dcnv3(values.requires_grad_(), offset, mask, **case.options)
        exact = ops.dcnv3(values.double(), offset.double(), mask.double(), **case.options)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, wanted)
    assert exact.dtype == torch.float64
    output.float().sum().backward()
    assert values.grad is not None and values.grad.dtype == torch.float32


def test_runs_on_the_meta_device() -> None:
    case = make_case(stride=(2, 1))
    tensors = case.to(torch.float32, "meta")[:3]
    assert ops.dcnv3(*tensors, **case.options).shape == case.grad_output.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": (2, 5, 7, 35)}, r"offset must have shape \(2, 5, 7, 36\); got \(2, 5, 7, 35\)"),
        ({"mask": (2, 5, 6, 18)}, r"mask must have shape \(2, 5, 7, 18\); got \(2, 5, 6, 18\)"),
        ({"input": (2, 5, 8)}, r"input must have shape \(B, H, W, C\); got \(2, 5, 8\)"),
        ({"input": (2, 5, 7, 9)}, r"input must have a multiple of groups=2 channels; got 9"),
        ({"groups": 0}, "groups must be at least 1; got 0"),
        ({"kernel_size": 3}, r"kernel_size must be a pair \(height, width\); got 3"),
        ({"stride": (1, 0)}, r"stride must be two integers of at least 1; got \(1, 0\)"),
        ({"padding": (-1, 0)}, r"padding must be two integers of at least 0; got \(-1, 0\)"),
        ({"kernel_size": (9, 3)}, "input must be at least as large as the dilated kernel"),
        ({"offset_scale": float("nan")}, "offset_scale must be finite; got nan"),
        ({"kernel_size": (2, 3), "remove_center": True}, "kernel_size must be odd"),
        ({"kernel_size": (1, 1), "remove_center": True}, "kernel_size must leave a point"),
    ],
)
def test_wrong_input_is_named(changes: dict[str, Any], message: str) -> None:
    shapes = {"input": (2, 5, 7, 8), "offset": (2, 5, 7, 36), "mask": (2, 5, 7, 18)}
    chosen = options()
    for name, value in changes.items():
        (shapes if name in shapes else chosen)[name] = value
    with pytest.raises(ValueError, match=message):
        ops.dcnv3(*(torch.zeros(shape) for shape in shapes.values()), **chosen)


def test_wrong_types_and_devices_are_named() -> None:
    tensors = [torch.zeros(2, 5, 7, 8), torch.zeros(2, 5, 7, 36), torch.zeros(2, 5, 7, 18)]
    with pytest.raises(TypeError, match=r"offset must be float16, .* got torch.int64"):
        ops.dcnv3(tensors[0], tensors[1].long(), tensors[2], **options())
    with pytest.raises(TypeError, match="mask must be a tensor; got ndarray"):
        ops.dcnv3(tensors[0], tensors[1], tensors[2].numpy(), **options())
    with pytest.raises(ValueError, match="mask must be on cpu, where input is; got meta"):
        ops.dcnv3(tensors[0], tensors[1], tensors[2].to("meta"), **options())
