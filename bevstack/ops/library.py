"""Registration of operators: schema, reference, gradient and autocast rule.

Importing this package defines every operator with a reference, written with torch functions, that
runs on any device. The compiled extension ``bevstack._C``, if it exists, registers kernels for
single devices under the same names. These replace the reference on their device; calls stay the
same.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from bevstack.ops.loading import BUILD_COMMAND, native_problem, native_state

_LIBRARY: Any = cast(Any, torch.library.Library)("bevstack", "DEF")  # torch does not annotate it
_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
OPERATORS = (
    "dcnv3",
    "dcnv3_backward",
    "ms_deform_attn",
    "ms_deform_attn_backward",
    "roi_align",
    "roi_align_backward",
)


class KernelInfo(NamedTuple):
    """Kernel that runs one operator on one device."""

    operator: str
    device: str  # "cpu" or "cuda"
    kernel: str  # "native" or "reference"
    instruction_set: str  # of a native CPU kernel, such as "avx512"; "" for any other kernel
    reason: str  # why the reference is used; "" for a native kernel


def define(
    schema: str, reference: Callable[..., Any], *, composed: bool = False
) -> torch._ops.OpOverload:
    """Register an operator of the "bevstack" namespace and its reference for any device.

    Args:
        schema: Schema of the operator, name first, without the namespace.
        reference: Function with the schema's arguments; runs on devices without a native kernel.
        composed: The reference calls another operator of this package, which has the kernels; it
            gives no warning of its own.

    Returns:
        The operator, ready to be called.
    """
    name = schema.split("(", 1)[0]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))

    @functools.wraps(reference)
    def run_reference(*args: Any, **options: Any) -> Any:  # torch has checked both by the schema
        device = next(a.device.type for a in args if isinstance(a, Tensor))
        if not composed:
            _warn_about_reference(device)
        return reference(*args, **options)

    _LIBRARY.impl(name, run_reference, "CompositeExplicitAutograd")
    return _operator(name)


def _operator(name: str) -> torch._ops.OpOverload:
    operator: torch._ops.OpOverload = getattr(torch.ops.bevstack, name).default
    return operator


def register_gradient(
    name: str, fake: Callable[..., Any], fake_backward: Callable[..., Any]
) -> None:
    """Register ``{name}_backward`` as the gradient of ``name``, and the fake kernels of both.

    The backward operator takes the gradient of the output, then the operator's arguments. It
    returns the gradients to the first three tensors; a fourth argument gets no gradient.

    ``torch.library.register_autograd`` does the same, but also fills in the schema's defaults at
    every call, which takes longer than the kernel of a small layer.

    Args:
        name: Name of the operator, without the namespace.
        fake: Takes the operator's tensors, without its options; returns an empty output.
        fake_backward: Takes the backward operator's tensors; returns three empty gradients.
    """
    for called, fake_kernel in ((name, fake), (f"{name}_backward", fake_backward)):
        torch.library.register_fake(
            f"bevstack::{called}", _without_options(fake_kernel), lib=_LIBRARY
        )
    operator = _operator(name)
    backward_operator = _operator(f"{name}_backward")

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():  # autograd computes a second derivative
            grads = backward_operator(grad_output, *inputs, **ctx.options)
        else:
            with torch._C._AutoDispatchBelowAutograd():
                grads = backward_operator(grad_output, *inputs, **ctx.options)
        return (None, *grads, *(None for _ in inputs[3:]))

    _LIBRARY.impl(name, _autograd_kernel(operator, backward), "Autograd")
    _LIBRARY.impl(
        f"{name}_backward", _autograd_kernel(backward_operator, _refusal(name)), "Autograd"
    )


def _refusal(name: str) -> Callable[..., None]:
    """Return the second derivative of an operator, which has none, as the published operators."""

    def refuse(ctx: Any, *grads: Any) -> None:
        raise NotImplementedError(f"bevstack.ops.{name} cannot be differentiated twice")

    return refuse


def register_map_gradient(
    name: str, fake: Callable[..., Any], fake_backward: Callable[..., Any]
) -> None:
    """Register ``{name}_backward`` as the gradient of ``name`` to its first tensor alone.

    The backward operator takes the gradient of the output, then the operator's two tensors.

    Args:
        name: Name of the operator, without the namespace.
        fake: Takes the operator's tensors and options; returns an empty output.
        fake_backward: Takes those of the backward operator; returns an empty gradient.
    """
    for called, fake_kernel in ((name, fake), (f"{name}_backward", fake_backward)):
        torch.library.register_fake(f"bevstack::{called}", fake_kernel, lib=_LIBRARY)
    operator = _operator(name)
    backward_operator = _operator(f"{name}_backward")

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return None, backward_operator(grad_output, *ctx.saved_tensors, **ctx.options), None

    _LIBRARY.impl(name, _autograd_kernel(operator, backward), "Autograd")
    _LIBRARY.impl(
        f"{name}_backward", _autograd_kernel(backward_operator, _refusal(name)), "Autograd"
    )


def _without_options(fake_kernel: Callable[..., Any]) -> Callable[..., Any]:
    def call(*tensors: Tensor | None, **options: Any) -> Any:
        return fake_kernel(*tensors)

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
    gradient: Any = type(f"{operator.__name__}_gradient", (torch.autograd.Function,), members)

    def differentiable(*inputs: Tensor | None, **options: Any) -> Any:
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
            return gradient.apply(options, *inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*inputs, **options)

    return differentiable


def check_tensors(tensors: dict[str, Tensor]) -> None:
    """Check that all tensors are floating-point and on the device of the first one.

    Raises:
        TypeError: An argument is not a tensor, or its type is not a supported floating type.
        ValueError: A tensor is on another device than the first.
    """
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
    """Let autocast lower only the float32 tensors at ``cast_positions``.

    Coordinates and weights keep their type: rounding a location to bfloat16 shifts it by 0.4 cell
    on a grid of 200 cells.
    """
    operator = _operator(name)
    for device, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
        _LIBRARY.impl(name, _autocast_kernel(operator, device, key, cast_positions), key)


def kernels() -> tuple[KernelInfo, ...]:
    """Return the kernel, native or reference, of each operator on each device of this machine."""
    native_problem()
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    return tuple(_kernel_info(operator, device) for operator in OPERATORS for device in devices)


def has_native_kernel(operator: str, device: str) -> bool:
    """Return True if a compiled kernel of an operator is registered for "cpu" or "cuda"."""
    native_problem()
    name = f"bevstack::{operator}"
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, device.upper())


def why_reference(device: str) -> str:
    """Return the reason why a device without compiled kernels runs the reference."""
    state = native_state()
    if state.problem is not None:
        return state.problem
    cause = state.record.cuda_problem if state.record is not None and device == "cuda" else ""
    return f"bevstack._C holds no kernels for {device}" + (f": {cause}" if cause else "")


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
def _warn_about_reference(device: str) -> None:
    warnings.warn(
        f"bevstack's operators run on their reference kernels, which are correct but slow: "
        f"{why_reference(device)}. To build the fast kernels, run `{BUILD_COMMAND}`.",
        RuntimeWarning,
        stacklevel=2,
    )
