"""Attention from offsets and logits against ms_deform_attn at the same places, in float64."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from bevstack import ops

module = importlib.import_module("bevstack.ops.deformable_attention")
KERNELS = ("reference", "dispatched")
NAMES = ("output", "value", "offsets", "logits", "reference_points")
# Relative to the largest magnitude: float32 sums of at most a few hundred products of numbers of
# order one, and positions that are rounded in another order (1e-6 pixel)
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-11}


class Case(NamedTuple):
    """Sizes of a call; ``index`` is the image of each packed row."""

    shapes: tuple[tuple[int, int], ...] = ((5, 7), (3, 4), (2, 1))
    batch: int = 2
    queries: int = 5
    heads: int = 3
    depth: int = 4
    points: int = 4
    anchors: int = 2
    parts: int = 1
    index: tuple[int, ...] | None = None

    def tensors(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> list[Tensor]:
        generator = torch.Generator().manual_seed(3)
        rows = (self.batch, self.queries) if self.index is None else (len(self.index),)
        pixels = sum(h * w for h, w in self.shapes)
        samples = (*rows, self.heads, len(self.shapes), self.points)

        def draw(*shape: int) -> Tensor:
            numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
            return numbers.to(device, dtype)

        value = draw(self.batch, pixels, self.heads, self.depth)
        anchors = torch.rand((*rows, self.anchors, 2), generator=generator, dtype=torch.float64)
        return [value, 2 * draw(*samples, 2), draw(*samples), anchors.to(device, dtype)]

    def attend(self, *tensors: Tensor) -> Tensor:
        value, offsets, logits, anchors = tensors
        index = None if self.index is None else torch.tensor(self.index, device=value.device)
        return ops.deformable_attention(
            value, self.shapes, offsets, logits, anchors, value_index=index, parts=self.parts
        )

    def wanted(self, *tensors: Tensor) -> Tensor:
        """Compute the locations and the softmax with loops over levels, points and parts."""
        value, offsets, logits, anchors = tensors
        index = None if self.index is None else torch.tensor(self.index, device=value.device)
        levels = []
        for level, (height, width) in enumerate(self.shapes):
            size = torch.tensor([width, height], dtype=value.dtype, device=value.device)
            points = [
                anchors[..., p % self.anchors, :][..., None, :] + offsets[..., level, p, :] / size
                for p in range(self.points)
            ]
            levels.append(torch.stack(points, -2))
        locations = torch.stack(levels, -3)
        runs = logits.flatten(-2).chunk(self.parts, -1)
        weights = torch.cat([run.softmax(-1) / self.parts for run in runs], -1)
        return ops.ms_deform_attn(
            value, self.shapes, locations, weights.view_as(logits), value_index=index
        )


CASES = {
    "levels": Case(),
    "packed": Case(index=(1, 0, 0, 1, 1, 1, 1, 0)),
    "one_anchor": Case(anchors=1, depth=32),
    "queues": Case(shapes=((6, 5),), points=8, anchors=1, parts=2, depth=16),
    "pillars": Case(points=8, anchors=4, depth=32, heads=8, index=tuple([0] * 40 + [1] * 50)),
    "more_anchors_than_points": Case(points=2, anchors=3),
    "long": Case(shapes=((4, 4),), points=150, anchors=5, heads=2),
    "long_parts": Case(shapes=((4, 4),), points=300, anchors=1, heads=2, parts=2),
    "short_parts_of_many_points": Case(shapes=((4, 4),), points=160, anchors=1, parts=80),
    "one_point": Case(shapes=((1, 1),), points=1, anchors=1, heads=1, depth=1),
    "no_rows": Case(queries=0),
}


def results(case: Case, tensors: list[Tensor], function: Any) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    output = function(*leaves)
    weights = torch.linspace(-1, 1, max(1, output.numel()), dtype=torch.float64)
    grad = weights[: output.numel()].view(output.shape).to(output)
    return [output.detach(), *torch.autograd.grad(output, leaves, grad, allow_unused=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_equal_attention_at_locations(
    name: str, kernel: str, dtype: torch.dtype, device: torch.device, monkeypatch: Any
) -> None:
    case = CASES[name]
    exact = results(case, case.tensors(torch.float64), case.wanted)
    if kernel == "reference":
        monkeypatch.setattr(module, "_OPERATOR", module.reference)
    got = results(case, case.tensors(dtype, device), case.attend)
    for tensor, wanted, label in zip(got, exact, NAMES, strict=True):
        scale = max(1.0, float(wanted.abs().max())) if wanted.numel() else 1.0
        error = (tensor.cpu().double() - wanted).abs().max() if wanted.numel() else 0.0
        assert float(error) <= TOLERANCE[dtype] * scale, (label, float(error), scale)


@pytest.mark.parametrize("name", ["levels", "queues", "packed"])
def test_the_composed_gradient_equals_autograd(name: str) -> None:
    case = CASES[name]
    *three, anchors = case.tensors(torch.float64)
    wanted = results(case, [*three, anchors], case.wanted)
    index = None if case.index is None else torch.tensor(case.index)
    options = {"spatial_shapes": [s for pair in case.shapes for s in pair], "parts": case.parts}
    weights = torch.linspace(-1, 1, wanted[0].numel(), dtype=torch.float64).view_as(wanted[0])
    got = module.reference_backward(weights, *three, anchors, index, **options)
    for tensor, exact in zip(got, wanted[1:4], strict=True):
        torch.testing.assert_close(tensor, exact, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_rounds_only_the_stored_numbers(
    dtype: torch.dtype, device: torch.device
) -> None:
    case = CASES["pillars"]
    value, offsets, logits, anchors = case.tensors(torch.float32, device)
    value, logits = value.to(dtype), logits.to(dtype)
    got = case.attend(value, offsets, logits, anchors)
    wanted = case.attend(value.float(), offsets, logits.float(), anchors)
    assert got.dtype == dtype
    torch.testing.assert_close(got, wanted.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["levels", "packed"])
def test_opcheck(name: str, device: torch.device) -> None:
    case = CASES[name]
    leaves = [t.requires_grad_() for t in case.tensors(torch.float32, device)[:3]]
    anchors = case.tensors(torch.float32, device)[3]
    index = None if case.index is None else torch.tensor(case.index, device=device)
    options = {"spatial_shapes": [s for pair in case.shapes for s in pair], "parts": case.parts}
    operator = torch.ops.bevstack.deformable_attention
    torch.library.opcheck(operator, (*leaves, anchors, index), options)
    detached = [t.detach() for t in leaves]
    grad = torch.ones_like(operator(*detached, anchors, index, **options))
    backward = torch.ops.bevstack.deformable_attention_backward
    torch.library.opcheck(backward, (grad, *detached, anchors, index), options)


def test_compiles_as_one_graph(device: torch.device) -> None:
    case = CASES["packed"]
    index = torch.tensor(case.index, device=device)

    def attend(*tensors: Tensor) -> Tensor:
        value, offsets, logits, anchors = tensors
        return ops.deformable_attention(
            value, case.shapes, offsets, logits, anchors, value_index=index
        )

    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    tensors = [t.requires_grad_() for t in case.tensors(torch.float32, device)]
    eager, output = attend(*tensors), compiled(*tensors)
    assert torch.equal(output, eager)
    grads = torch.autograd.grad(output.sum(), tensors)
    for got, wanted in zip(grads, torch.autograd.grad(eager.sum(), tensors), strict=True):
        torch.testing.assert_close(got, wanted)


def test_autocast_lowers_the_values_alone(device: torch.device) -> None:
    case = CASES["one_anchor"]
    value, offsets, logits, anchors = case.tensors(torch.float32, device)
    wanted = case.attend(value.bfloat16(), offsets, logits, anchors)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output = case.attend(value, offsets, logits, anchors)
    assert torch.equal(output, wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": (2, 5, 3, 3, 4, 3)}, "offsets must have shape"),
        ({"logits": (2, 5, 3, 3, 3)}, "logits must have shape"),
        ({"anchors": (2, 4, 2, 2)}, r"reference_points must have shape \(B=2, Q=5, A, 2\); got"),
        ({"anchors": (2, 5, 0, 2)}, "reference_points must hold at least one point"),
        ({"parts": 5}, "parts must divide the 12 points of a head; got 5"),
        ({"parts": 0}, "parts must divide the 12 points of a head; got 0"),
    ],
)
def test_wrong_input_is_named(changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "offsets": (2, 5, 3, 3, 4, 2),
        "logits": (2, 5, 3, 3, 4),
        "anchors": (2, 5, 2, 2),
        "parts": 1,
        **changes,
    }
    tensors = [torch.zeros(given[name]) for name in ("offsets", "logits", "anchors")]
    with pytest.raises(ValueError, match=message):
        ops.deformable_attention(
            torch.zeros(2, 49, 3, 4), ((5, 7), (3, 4), (2, 1)), *tensors, parts=given["parts"]
        )
