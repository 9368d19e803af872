"""Values and gradients of differentiable functions, and a check of the gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from tests.frozen.case import Tensors, draw

Run = Callable[[Tensors], Tensors]

# Step of the central difference: its error is (1e-6)^2 by curvature and 1e-16 / 1e-6 by rounding.
STEP = 1e-6
GRADIENT_TOLERANCE, SUM_TOLERANCE = 1e-6, 3e-9  # relative to the gradient's norm, and to the sum


def values_and_gradients(run: Run, inputs: Tensors) -> dict[str, Tensor]:
    """Return the outputs, and the gradients of their weighted sum to the inputs ("grad.<name>")."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    outputs = run(leaves)
    gradients = torch.autograd.grad(weighted_sum(outputs), list(leaves.values()))
    named = zip(leaves, gradients, strict=True)
    values = {name: tensor.detach() for name, tensor in outputs.items()}
    return {**values, **{f"grad.{name}": gradient for name, gradient in named}}


def weighted_sum(outputs: Tensors) -> Tensor:
    """Return a weighted sum of all entries of all floating outputs."""
    floating = {name: t for name, t in outputs.items() if t.is_floating_point()}
    return torch.stack(
        [(t * draw(f"weights of {name}", *t.shape).to(t)).sum() for name, t in floating.items()]
    ).sum()


def verify_gradients(run: Run, inputs: Tensors, found: Tensors, names: Iterable[str]) -> None:
    """Compare gradients along a drawn direction with a central difference of the outputs."""
    for name in names:
        direction = draw(f"direction of {name}", *inputs[name].shape)
        ahead, behind = (
            weighted_sum(run({**inputs, name: inputs[name] + step * direction})).item()
            for step in (STEP, -STEP)
        )
        difference = (ahead - behind) / (2 * STEP)
        slope = float((found[f"grad.{name}"] * direction).sum())
        norm = float(found[f"grad.{name}"].norm())
        tolerance = GRADIENT_TOLERANCE * norm + SUM_TOLERANCE * (1 + abs(ahead))
        if not abs(slope - difference) <= tolerance:
            raise AssertionError(
                f"the gradient to {name} along a line must be {difference}; got {slope}"
            )
