"""Calls of an operator and its gradients on a given kernel, and comparison of results."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bevstack import ops

KERNELS = ("reference", "dispatched")  # "dispatched" is native if bevstack._C is built

# Relative to the largest magnitude of the tensor: float32 sums of at most a few hundred products of
# numbers of order one; for float64, the tolerance that the stored numbers' description allows.
TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-11}


def values_and_gradients(
    kernel: str, operator: str, tensors: Sequence[Tensor], grad_output: Tensor, **options: Any
) -> tuple[Tensor, ...]:
    """Return the output and the gradients to the three tensors."""
    if kernel == "reference":
        return _by_reference(operator, tensors, grad_output, options)
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    if operator == "dcnv3":
        output = ops.dcnv3(*leaves, **options)
    else:
        value, locations, weights = leaves
        output = ops.ms_deform_attn(
            value,
            options["spatial_shapes"],
            locations,
            weights,
            value_index=options.get("value_index"),
        )
    return output.detach(), *torch.autograd.grad(output, leaves, grad_output)


def _by_reference(
    operator: str, tensors: Sequence[Tensor], grad_output: Tensor, options: dict[str, Any]
) -> tuple[Tensor, ...]:
    module = importlib.import_module(f"bevstack.ops.{operator}")
    inputs = list(tensors)
    if operator == "ms_deform_attn":
        inputs.append(options.pop("value_index", None))
        options["spatial_shapes"] = [s for pair in options["spatial_shapes"] for s in pair]
    with torch.no_grad():
        output = module.reference(*inputs, **options)
        return output, *module.reference_backward(grad_output, *inputs, **options)


def assert_close(
    got: Sequence[Tensor], wanted: Sequence[np.ndarray], tolerance: float, names: Sequence[str]
) -> None:
    """Assert that each error is at most tolerance times the largest magnitude wanted."""
    for tensor, array, name in zip(got, wanted, names, strict=True):
        expected = torch.as_tensor(array, dtype=torch.float64)
        assert tensor.shape == expected.shape, name
        error = (tensor.detach().cpu().double() - expected).abs()
        scale = expected.abs().max() if expected.numel() else torch.zeros(())
        assert torch.isfinite(error).all(), f"{name} is not finite"
        assert (error <= tolerance * scale).all(), (
            f"{name}: {error.max():.3g} off, {tolerance * scale:.3g} allowed"
        )
