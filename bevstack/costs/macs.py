"""How large a network is and how much it computes: parameters and multiply-accumulates (MACs).

Published "FLOPs" of vision backbones are MACs. Counting needs shapes only, so build model and
inputs on ``device="meta"``: it then costs neither memory nor arithmetic, whatever the size.
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

# Of one channel of one sample: a multiply-accumulate for each of four corners and one for the mask.
MACS_PER_SAMPLE = 5


@dataclass(frozen=True, kw_only=True)
class MACCounts:
    """Multiply-accumulates of one call, by what does them."""

    conv: int  # nn.Conv2d and other convolution modules
    linear: int  # nn.Linear modules, biases not counted
    other_matmul: int  # matrix products outside those modules: attention, gates
    sampling: int  # the deformable operators: 5 a sampled point and channel

    @property
    def conv_and_linear(self) -> int:
        """What published tables of backbones count, apart from the operators' own share."""
        return self.conv + self.linear

    @property
    def total(self) -> int:
        """Everything counted."""
        return self.conv + self.linear + self.other_matmul + self.sampling


def count_parameters(model: nn.Module, *, trainable_only: bool = False) -> int:
    """Elements of all parameters, each counted once however often it is shared; no buffers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def count_macs(model: nn.Module, *inputs: Any) -> MACCounts:
    """Runs ``model(*inputs)`` once, without gradients, and counts its multiply-accumulates.

    Elementwise work, norms and softmax are not counted. The model's mode (training or evaluation)
    is left as it is; a batch norm in training mode would update its statistics.

    Args:
        model: any network; on the meta device nothing is computed.
        inputs: what its ``forward`` takes, on the model's device.
    """
    return run_counted(model, *inputs)[0]


def run_counted(model: nn.Module, *inputs: Any) -> tuple[MACCounts, Any]:
    """As ``count_macs``, with what the model returned, on whose shapes the next part may run."""
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
    """Within, the model and all new tensors are on the CPU with shapes alone: nothing is computed.

    Unlike the meta device this serves every code path of a CPU, such as autocast. The model is one
    built on the meta device; it stays without storage.
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
        totals["linear"] += output.numel() * module.in_features

    return add


def _operator_flops() -> dict[Any, Callable[..., int]]:
    return {
        torch.ops.bevstack.dcnv3: _dcnv3_flops,
        torch.ops.bevstack.ms_deform_attn: _ms_deform_attn_flops,
        # Not in torch's own table, which has the kernels of GPUs.
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
