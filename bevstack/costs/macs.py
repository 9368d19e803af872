"""Counting of a network's parameters and multiply-accumulates (MACs).

Published "FLOPs" of vision backbones are MACs. Counting needs only shapes. Build the model and its
inputs on ``device="meta"`` to count without memory and arithmetic.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import bevstack.ops  # noqa: F401  defines the operators that are counted

# MACs of one channel of one sample: one for each of four corners and one for the mask.
MACS_PER_SAMPLE = 5


@dataclass(frozen=True, kw_only=True)
class MACCounts:
    """Multiply-accumulates of one call, by kind of operator."""

    conv: int  # nn.Conv2d and other convolution modules
    linear: int  # nn.Linear modules, without biases
    other_matmul: int  # matrix products outside of those modules: attention, gates
    sampling: int  # deformable operators: 5 for each sampled point and channel

    @property
    def conv_and_linear(self) -> int:
        """Return the MACs that published tables of backbones count, without DCNv3's sampling."""
        return self.conv + self.linear

    @property
    def total(self) -> int:
        """Return the sum of all MACs."""
        return self.conv + self.linear + self.other_matmul + self.sampling


def count_parameters(model: nn.Module, *, trainable_only: bool = False) -> int:
    """Return the number of elements of all parameters, without buffers; shared ones count once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def count_macs(model: nn.Module, *inputs: Any) -> MACCounts:
    """Run ``model(*inputs)`` once, without gradients, and count its multiply-accumulates.

    Elementwise operations, norms and softmax are not counted. The model's mode (training or
    evaluation) stays; a batch norm in training mode updates its statistics.

    Args:
        model: any network; on the meta device nothing is computed.
        inputs: arguments of its ``forward``, on the model's device.
    """
    return run_and_count(model, *inputs)[0]


def run_and_count(model: nn.Module, *inputs: Any) -> tuple[MACCounts, Any]:
    """Count like ``count_macs``, and return the counts and the model's output."""
    counter = FlopCounterMode(display=False, custom_mapping=_operator_flops())
    in_modules: Counter[str] = Counter()
    hooks = [
        module.register_forward_hook(_module_hook(in_modules))
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.no_grad(), counter:
            output = model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    by_operator = _macs_by_operator(counter)
    counts = MACCounts(
        conv=by_operator["conv"],
        linear=in_modules["linear"],
        other_matmul=by_operator["matmul"] - in_modules["linear"],
        sampling=by_operator["sampling"],
    )
    return counts, output


@contextmanager
def shapes_only(model: nn.Module) -> Iterator[None]:
    """Enter a context in which the model and all new tensors have shapes but no data.

    Nothing is computed. Unlike tensors of the meta device, these tensors report the device "cpu",
    so code paths of the CPU such as autocast work. The model must have been built on the meta
    device. Its parameters and buffers are replaced, also after the context, by ones without
    storage.
    """
    with FakeTensorMode():
        for owner in model.modules():
            for name, parameter in list(owner.named_parameters(recurse=False)):
                shape = torch.empty(parameter.shape, dtype=parameter.dtype)
                owner.register_parameter(name, nn.Parameter(shape, requires_grad=False))
            for name, buffer in list(owner.named_buffers(recurse=False)):
                owner.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype))
        yield


def _module_hook(totals: Counter[str]) -> Callable[[nn.Module, Any, Tensor], None]:
    def add(module: nn.Module, inputs: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Linear)
        totals["linear"] += output.numel() * module.in_features

    return add


def _operator_flops() -> dict[Any, Callable[..., int]]:
    return {
        torch.ops.bevstack.dcnv3: _dcnv3_flops,
        torch.ops.bevstack.ms_deform_attn: _ms_deform_attn_flops,
        torch.ops.bevstack.deformable_attention: _deformable_attention_flops,
        # Missing in torch's table, which lists the kernels for GPUs only.
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    }


def _macs_by_operator(counter: FlopCounterMode) -> Counter[str]:
    macs: Counter[str] = Counter()
    for operator, flops in counter.get_flop_counts()["Global"].items():
        name = str(operator)
        kind = "sampling" if "bevstack" in name else "conv" if "convolution" in name else "matmul"
        macs[kind] += flops // 2
    return macs


def _attention_flops(
    query_shape: Sequence[int],  # (B, H, Q, D)
    key_shape: Sequence[int],  # (B, H, K, D)
    value_shape: Sequence[int],  # (B, H, K, D)
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Any = None,
    scale: float | None = None,
    out_shape: Any = None,
) -> int:
    return 2 * math.prod(query_shape[:3]) * key_shape[2] * (key_shape[3] + value_shape[3])


def _dcnv3_flops(
    input_shape: Sequence[int],
    offset_shape: Sequence[int],
    mask_shape: Sequence[int],  # (B, Y, X, G * P)
    *,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
    softmax: bool = False,
    out_shape: Sequence[int] | None = None,
) -> int:
    return 2 * MACS_PER_SAMPLE * math.prod(mask_shape) * (input_shape[-1] // groups)


def _ms_deform_attn_flops(
    value_shape: Sequence[int],  # (B, S, H, D)
    locations_shape: Sequence[int],
    weights_shape: Sequence[int],  # (B, Q, H, L, P) or (M, H, L, P)
    value_index_shape: Sequence[int] | None,
    *,
    spatial_shapes: Sequence[int],
    out_shape: Sequence[int] | None = None,
) -> int:
    return 2 * MACS_PER_SAMPLE * math.prod(weights_shape) * value_shape[-1]


def _deformable_attention_flops(
    value_shape: Sequence[int],  # (B, S, H, D)
    offsets_shape: Sequence[int],
    logits_shape: Sequence[int],  # (B, Q, H, L, P) or (M, H, L, P)
    reference_points_shape: Sequence[int],
    value_index_shape: Sequence[int] | None,
    *,
    spatial_shapes: Sequence[int],
    parts: int,
    out_shape: Sequence[int] | None = None,
) -> int:
    return 2 * MACS_PER_SAMPLE * math.prod(logits_shape) * value_shape[-1]
