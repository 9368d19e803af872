"""Choice of the operators' kernels: the references, or the dispatcher's choice."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor

OPERATORS = ("dcnv3", "ms_deform_attn")


class _ByReference(torch.autograd.Function):
    """Autograd function of an operator's reference, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any, module: ModuleType, options: dict[str, Any], *tensors: Tensor | None
    ) -> Tensor:
        ctx.module, ctx.options = module, options
        ctx.save_for_backward(*tensors)
        return module.reference(*tensors, **options)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        gradients = ctx.module.reference_backward(grad_output.contiguous(), *tensors, **ctx.options)
        return None, None, *gradients, *(None for _ in tensors[3:])


def _reference_operator(module: ModuleType) -> Callable[..., Tensor]:
    return lambda *tensors, **options: _ByReference.apply(module, options, *tensors)


@contextmanager
def use_kernel(kernel: str) -> Iterator[None]:
    """Run every operator on its "reference", or on the "dispatched" kernel as usual."""
    with ExitStack() as stack:
        for operator in OPERATORS if kernel == "reference" else ():
            module = importlib.import_module(f"bevstack.ops.{operator}")
            stack.enter_context(mock.patch.object(module, "_OPERATOR", _reference_operator(module)))
        yield
