"""Integration of ms_deform_attn in torch: layouts, autograd, compilation, autocast, wrong input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bevstack import ops
from tests.ops.calls import KERNELS, TOLERANCE, assert_close, values_and_gradients
from tests.ops.test_ms_deform_attn import NAMES, SHAPES, make_case


def test_tensors_need_not_be_contiguous(device: torch.device) -> None:
    case = make_case(depth=16)
    *tensors, grad_output = case.to(torch.float32, device)

    def turned(tensor: Tensor) -> Tensor:
        return tensor.transpose(0, 1).contiguous().transpose(0, 1)

    got = values_and_gradients(
        "dispatched",
        "ms_deform_attn",
        [turned(t) for t in tensors],
        turned(grad_output),
        **case.options(device),
    )
    assert_close(got, case.wanted(), TOLERANCE[torch.float32], NAMES)


@pytest.mark.parametrize("index", [None, [1, 0, 1]])
def test_gradcheck(index: list[int] | None, device: torch.device) -> None:
    # The function is smooth only between pixel centres: with this seed no sample is within 1e-6.
    case = make_case(queries=2, heads=2, depth=3, index=index, seed=2)
    tensors = [t.requires_grad_() for t in case.to(torch.float64, device)[:3]]
    extra = case.options(device)
    shapes, value_index = extra["spatial_shapes"], extra["value_index"]

    def attend(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ops.ms_deform_attn(value, shapes, locations, weights, value_index=value_index)

    assert torch.autograd.gradcheck(attend, tensors)


@pytest.mark.parametrize("index", [None, [1, 0, 1]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype: torch.dtype, index: list[int] | None, device: torch.device) -> None:
    case = make_case(queries=3, index=index)
    value, locations, weights, grad_output = case.to(torch.float32, device)
    leaves = tuple(t.requires_grad_() for t in (value.to(dtype), locations, weights))
    index_tensor = case.options(device)["value_index"]
    flat = {"spatial_shapes": [size for pair in SHAPES for size in pair]}
    torch.library.opcheck(torch.ops.bevstack.ms_deform_attn, (*leaves, index_tensor), flat)
    detached = tuple(t.detach() for t in leaves)
    arguments = (grad_output.to(dtype), *detached, index_tensor)
    torch.library.opcheck(torch.ops.bevstack.ms_deform_attn_backward, arguments, flat)


def test_second_derivatives_are_refused() -> None:
    case = make_case()
    value, locations, weights, _ = (t.requires_grad_() for t in case.to(torch.float64))
    output = ops.ms_deform_attn(value, SHAPES, locations, weights)
    (first,) = torch.autograd.grad(output.square().sum(), value, create_graph=True)
    with pytest.raises(NotImplementedError, match="ms_deform_attn cannot be differentiated twice"):
        first.sum().backward()


class Attention(torch.nn.Module):
    def __init__(self, spatial_shapes: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.spatial_shapes = spatial_shapes

    def forward(
        self, value: Tensor, locations: Tensor, logits: Tensor, index: Tensor | None
    ) -> Tensor:
        weights = logits.flatten(-2).softmax(-1).view_as(logits)
        return ops.ms_deform_attn(value, self.spatial_shapes, locations, weights, value_index=index)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_as_one_graph(dynamic: bool, packed: bool, device: torch.device) -> None:
    module = Attention(SHAPES)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for queries, index in ((5, [1, 0, 1]), (4, [0, 1, 1, 0, 1])):
        case = make_case(queries=queries, index=index if packed else None)
        leaves = [t.requires_grad_() for t in case.to(torch.float32, device)[:3]]
        index_tensor = case.options(device)["value_index"]
        eager, output = module(*leaves, index_tensor), compiled(*leaves, index_tensor)
        assert torch.equal(output, eager)
        grads = torch.autograd.grad(output.sum(), leaves)
        for got, wanted in zip(grads, torch.autograd.grad(eager.sum(), leaves), strict=True):
            torch.testing.assert_close(got, wanted)  # the softmax is decomposed when compiled


@pytest.mark.parametrize("packed", [False, True])
def test_exports(packed: bool, device: torch.device) -> None:
    case = make_case(index=[1, 1, 0] if packed else None)
    inputs = (*case.to(torch.float32, device)[:3], case.options(device)["value_index"])
    module = Attention(SHAPES)
    program = torch.export.export(module, inputs)
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert torch.ops.bevstack.ms_deform_attn.default in called
    assert torch.equal(program.module()(*inputs), module(*inputs))


def test_autocast_does_not_lower_the_locations(device: torch.device) -> None:
    case = make_case(depth=16)
    value, locations, weights, _ = case.to(torch.float32, device)
    wanted = ops.ms_deform_attn(value.bfloat16(), SHAPES, locations, weights)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output = ops.ms_deform_attn(value, SHAPES, locations, weights)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, wanted)


@pytest.mark.parametrize("packed", [False, True])
def test_runs_on_the_meta_device(packed: bool) -> None:
    case = make_case(index=[1, 1, 0] if packed else None)
    value, locations, weights, _ = case.to(torch.float32, "meta")
    output = ops.ms_deform_attn(
        value, SHAPES, locations, weights, value_index=case.options("meta")["value_index"]
    )
    assert output.shape == case.grad_output.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": (2, 48, 3, 4)}, r"value must have the 49 pixels of spatial_shapes .*; got 48"),
        ({"value": (2, 49, 12)}, r"value must have shape \(B, S, H, D\); got \(2, 49, 12\)"),
        (
            {"locations": (2, 5, 3, 3, 2, 3)},
            r"sampling_locations must have shape \(B=2, Q, H=3, 3, P, 2\); got",
        ),
        ({"locations": (2, 5, 3, 2, 2, 2)}, "sampling_locations must have shape"),
        ({"weights": (2, 5, 3, 3, 1)}, r"attention_weights must have shape .*P=2\); got"),
        ({"shapes": ((5, 7), (3, 4), (2, 0))}, "spatial_shapes must be positive"),
        ({"shapes": ((5, 7, 1), (3, 4))}, r"spatial_shapes must hold pairs \(height, width\)"),
        ({"shapes": ()}, "spatial_shapes must be positive"),
        ({"index": torch.tensor([0, 1])}, r"sampling_locations must have shape \(M, H=3, 3, P, 2"),
    ],
)
def test_wrong_input_is_named(changes: dict[str, Any], message: str) -> None:
    given = {
        "value": (2, 49, 3, 4),
        "shapes": SHAPES,
        "locations": (2, 5, 3, 3, 2, 2),
        "weights": (2, 5, 3, 3, 2),
        "index": None,
        **changes,
    }
    value, locations, weights = (torch.zeros(given[n]) for n in ("value", "locations", "weights"))
    with pytest.raises(ValueError, match=message):
        ops.ms_deform_attn(value, given["shapes"], locations, weights, value_index=given["index"])


@pytest.mark.parametrize("index", [[0, 2], [-1, 0]])
@pytest.mark.parametrize("kernel", KERNELS)
def test_an_image_index_out_of_range_is_refused(kernel: str, index: list[int]) -> None:
    case = make_case(batch=2, index=[0, 1])
    *tensors, grad_output = case.to(torch.float32)
    with pytest.raises(ValueError, match=r"value_index must lie in 0\.\.1, .*; got"):
        values_and_gradients(
            kernel,
            "ms_deform_attn",
            tensors,
            grad_output,
            spatial_shapes=SHAPES,
            value_index=torch.tensor(index),
        )


def test_wrong_types_and_devices_are_named() -> None:
    case = make_case(index=[0, 1])
    value, locations, weights, _ = case.to(torch.float32)
    index = torch.tensor([0, 1])
    with pytest.raises(TypeError, match=r"value_index must be int64; got torch\.int32"):
        ops.ms_deform_attn(value, SHAPES, locations, weights, value_index=index.int())
    with pytest.raises(ValueError, match="value_index must be on cpu, where value is; got meta"):
        ops.ms_deform_attn(value, SHAPES, locations, weights, value_index=index.to("meta"))
    with pytest.raises(TypeError, match=r"value must be float16, .*; got torch\.uint8"):
        ops.ms_deform_attn(value.byte(), SHAPES, locations, weights, value_index=index)
