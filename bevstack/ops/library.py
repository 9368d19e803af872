"""How an operator is made: its schema and reference here, its fast kernels in ``bevstack._C``.

Every operator exists from the moment this package is imported, served on every device by a
reference written with torch functions. The compiled extension, where there is one, registers
kernels for single devices under the same names and thereby takes their place; nothing that calls
an operator can tell which one answers.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bevstack.ops.loading import BUILD_COMMAND, native_problem, native_state

_LIBRARY = torch.library.Library("bevstack", "DEF")
_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
OPERATORS = ("dcnv3", "dcnv3_backward", "ms_deform_attn", "ms_deform_attn_backward")


class KernelInfo(NamedTuple):
    """Which kernel answers one operator on one device."""

    operator: str
    device: str  # "cpu" or "cuda"
    kernel: str  # "native" or "reference"
    instruction_set: str  # of a native CPU kernel, such as "avx512"; "" where it has no meaning
    reason: str  # why the reference serves; "" for a native kernel


def define(schema: str, reference: Callable[..., Any]) -> torch._ops.OpOverload:
    """Defines an operator of the "bevstack" namespace and the reference that serves any device.

    Args:
        schema: the operator's schema, name first, without the namespace.
        reference: takes the schema's arguments; called wherever no native kernel is registered.

    Returns:
        The operator, ready to be called.
    """
    name = schema.split("(", 1)[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))

    @functools.wraps(reference)
    def serve(*args: Any, **options: Any) -> Any:  # the schema has checked both already
        device = next(a.device.type for a in args if isinstance(a, Tensor))
        _warn_that_reference_serves(device)
        return reference(*args, **options)

    _LIBRARY.impl(name, serve, "CompositeExplicitAutograd")
    return getattr(torch.ops.bevstack, name).default


def register_gradient(
    name: str, fake: Callable[..., Any], fake_backward: Callable[..., Any]
) -> None:
    """Joins the operator ``name`` to ``{name}_backward``, and gives both their shapes.

    The backward takes the gradient of the output, then the operator's own arguments, and returns
    the gradients of its first three tensors; a fourth argument has none. The two functions that
    give shapes are called with the tensors alone.

    This is what ``torch.library.register_autograd`` does, without its filling in of defaults at
    every call, which takes longer than a small layer's kernel.
    """
    for called, shapes in ((name, fake), (f"{name}_backward", fake_backward)):
        torch.library.register_fake(f"bevstack::{called}", _of_tensors(shapes), lib=_LIBRARY)
    operator = getattr(torch.ops.bevstack, name).default
    backward_operator = getattr(torch.ops.bevstack, f"{name}_backward").default

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody asks for a second derivative
            grads = backward_operator(grad_output, *inputs, **ctx.options)
        else:
            with torch._C._AutoDispatchBelowAutograd():
                grads = backward_operator(grad_output, *inputs, **ctx.options)
        return (None, *grads, *(None for _ in inputs[3:]))

    def refuse(ctx: Any, *grads: Any) -> None:
        raise NotImplementedError(f"bevstack.ops.{name} cannot be differentiated twice")

    _LIBRARY.impl(name, _autograd_kernel(operator, backward), "Autograd")
    _LIBRARY.impl(f"{name}_backward", _autograd_kernel(backward_operator, refuse), "Autograd")


def _of_tensors(shapes: Callable[..., Any]) -> Callable[..., Any]:
    def call(*tensors: Tensor | None, **options: Any) -> Any:
        return shapes(*tensors)

    return call


def _autograd_kernel(
    operator: torch._ops.OpOverload, backward: Callable[..., Any]
) -> Callable[..., Any]:
    def forward(ctx: Any, options: dict[str, Any], *inputs: Tensor | None) -> Any:
        ctx.save_for_backward(*inputs)
        ctx.options = options
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*inputs, **options)

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    gradient = type(f"{operator.__name__}_gradient", (torch.autograd.Function,), members)

    def differentiable(*inputs: Tensor | None, **options: Any) -> Any:
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
            return gradient.apply(options, *inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*inputs, **options)

    return differentiable


def check_tensors(tensors: dict[str, Tensor]) -> None:
    """Raises unless all are floating tensors on one device, the first one's."""
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor; got {type(tensor).__name__}")
        if tensor.dtype not in _FLOATING:
            raise TypeError(
                f"{name} must be float16, bfloat16, float32 or float64; got {tensor.dtype}"
            )
        if tensor.device != first.device:
            raise ValueError(
                f"{name} must be on {first.device}, where {first_name} is; got {tensor.device}"
            )


def register_autocast(name: str, cast_positions: tuple[int, ...]) -> None:
    """Makes autocast lower the float32 tensors at ``cast_positions`` and leave all others alone.

    Coordinates and weights keep the type they come in: rounded to bfloat16, a location errs by 0.4
    cell on a grid of 200 cells.
    """
    operator = getattr(torch.ops.bevstack, name).default
    for device, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
        _LIBRARY.impl(name, _autocast_kernel(operator, device, key, cast_positions), key)


def kernels() -> tuple[KernelInfo, ...]:
    """Which kernel, native or reference, serves each operator on each device of this machine."""
    native_problem()
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    return tuple(_kernel_info(operator, device) for operator in OPERATORS for device in devices)


def has_native_kernel(operator: str, device: str) -> bool:
    """Whether a compiled kernel of an operator is registered for "cpu" or "cuda"."""
    native_problem()
    name = f"bevstack::{operator}"
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, device.upper())


def why_reference(device: str) -> str:
    """Why the reference serves a device that no compiled kernel is registered for."""
    state = native_state()
    if state.problem is not None:
        return state.problem
    left_out = state.record.cuda_problem if state.record is not None and device == "cuda" else ""
    return f"bevstack._C holds no kernels for {device}" + (f": {left_out}" if left_out else "")


def _kernel_info(operator: str, device: str) -> KernelInfo:
    if not has_native_kernel(operator, device):
        return KernelInfo(operator, device, "reference", "", why_reference(device))
    instruction_set = torch.ops.bevstack.cpu_instruction_set() if device == "cpu" else ""
    return KernelInfo(operator, device, "native", instruction_set, "")


def _autocast_kernel(
    operator: torch._ops.OpOverload,
    device: str,
    key: str,
    cast_positions: tuple[int, ...],
) -> Callable[..., Any]:
    excluded = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def cast_and_call(*args: Any, **options: Any) -> Any:
        dtype = torch.get_autocast_dtype(device)
        cast = [
            a.to(dtype) if i in cast_positions and a.dtype == torch.float32 else a
            for i, a in enumerate(args)
        ]
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return operator(*cast, **options)

    return cast_and_call


@functools.cache
def _warn_that_reference_serves(device: str) -> None:
    warnings.warn(
        f"bevstack's operators run on their reference kernels, which are right but slow: "
        f"{why_reference(device)}. To build them: `{BUILD_COMMAND}`.",
        RuntimeWarning,
        stacklevel=2,
    )
