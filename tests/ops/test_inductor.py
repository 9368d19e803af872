"""Both operators in graphs that torch.compile compiles with inductor, compared with eager mode."""

from __future__ import annotations

import os
import shlex
import shutil

import pytest
import torch
from torch import Tensor, nn

from bevstack import ops
from tests.ops import test_dcnv3, test_ms_deform_attn

COMPILER = shlex.split(os.environ.get("CXX", "g++"))[0]
pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER) is None, reason=f"inductor needs a C++ compiler; {COMPILER} is not found"
)
# Inductor computes the parts around the operator with sums in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


class Convolution(nn.Module):
    """Layer around the operator: linear maps before it, a nonlinearity after it."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.offset = nn.Linear(channels, groups * 18)
        self.mask = nn.Linear(channels, groups * 9)
        self.options = test_dcnv3.options(groups=groups, softmax=True, offset_scale=0.7)

    def forward(self, features: Tensor) -> Tensor:
        output = ops.dcnv3(features * 2, self.offset(features), self.mask(features), **self.options)
        return output.sigmoid() + features


class Attention(nn.Module):
    def __init__(self, heads: int, shapes: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(heads, 1))
        self.shapes = shapes

    def forward(self, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ops.ms_deform_attn(
            value * self.scale, self.shapes, locations.sigmoid(), weights.softmax(-1)
        ).relu()


def assert_compiled_equals_eager(module: nn.Module, tensors: list[Tensor]) -> None:
    compiled = torch.compile(module, fullgraph=True, backend="inductor")
    leaves = [*tensors, *module.parameters()]
    wanted, got = module(*tensors), compiled(*tensors)
    torch.testing.assert_close(got, wanted, **CLOSE)
    grad_output = torch.randn_like(wanted)
    grads = torch.autograd.grad(got, leaves, grad_output)
    for one, other in zip(grads, torch.autograd.grad(wanted, leaves, grad_output), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_dcnv3_compiles_with_inductor(device: torch.device) -> None:
    torch.manual_seed(3)
    module = Convolution(channels=32, groups=2).to(device)
    features = torch.randn(2, 5, 7, 32, device=device, requires_grad=True)
    assert_compiled_equals_eager(module, [features])


def test_attention_compiles_with_inductor(device: torch.device) -> None:
    case = test_ms_deform_attn.make_case(batch=2, heads=3, depth=16)
    torch.manual_seed(4)
    module = Attention(3, case.spatial_shapes).to(device)
    tensors = [t.requires_grad_() for t in case.to(torch.float32, device)[:3]]
    assert_compiled_equals_eager(module, tensors)
