"""Precision of the arithmetic of a loaded model.

Coordinates, sampling offsets of attention, reference points and boxes stay float32 in every
precision.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bevstack.models.detection3d.decoder import Decoder
from bevstack.models.detection3d.spatial_cross_attention import SpatialCrossAttention
from bevstack.models.detection3d.temporal_self_attention import TemporalSelfAttention
from bevstack.models.layers.deformable_attention import DeformableAttention

_backends: Any = torch.backends  # torch does not annotate all of them
_LOG = logging.getLogger(__name__)

FLOAT32, TF32, BFLOAT16, FLOAT16, AUTO = "float32", "tf32", "bfloat16", "float16", "auto"
PRECISIONS = (FLOAT32, TF32, BFLOAT16, FLOAT16, AUTO)
_HALF_TYPES = {BFLOAT16: torch.bfloat16, FLOAT16: torch.float16}
# Linear maps that compute coordinates: ``float32_linear`` applies them
_COORDINATES = {
    SpatialCrossAttention: ("sampling_offsets",),
    TemporalSelfAttention: ("sampling_offsets", "sampling_offsets_pos"),
    DeformableAttention: ("sampling_offsets",),
    Decoder: ("reference_points",),
}


def choose_precision(name: str, device: str | torch.device) -> str:
    """Return the precision of a name on a device.

    "auto" is bfloat16 if the device computes it in hardware (a CPU with AVX-512 BF16 or AMX, a GPU
    from compute capability 8.0 on), else float32.

    Raises:
        ValueError: another name, or a precision that the device does not have or that is slow.
    """
    kind = torch.device(device).type
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {name!r}")
    if name == AUTO:
        name = BFLOAT16 if _has_bfloat16(torch.device(device)) else FLOAT32
        _LOG.info("precision %s", name)
        return name
    if kind == "cpu" and name == FLOAT16:
        raise ValueError("precision must not be float16 on a CPU, where it is slow: use bfloat16")
    if kind == "cpu" and name == TF32:
        raise ValueError("precision must not be tf32 on a CPU, which lacks it: use float32")
    return name


def cast_weights(model: nn.Module, precision: str) -> None:
    """Convert the weights of linear maps and convolutions to a half precision, once.

    The remaining weights stay float32, as do those of linear maps that compute coordinates. With
    float32 and tf32 nothing changes.
    """
    dtype = _HALF_TYPES.get(precision)
    if dtype is None:
        return
    kept = {
        getattr(module, name)
        for module in model.modules()
        for kind, names in _COORDINATES.items()
        if isinstance(module, kind)
        for name in names
    }
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module not in kept:
            module.to(dtype)


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in a precision: half types by autocast, float32 and tf32 by torch's settings.

    On a GPU torch computes convolutions in TF32 by default; "float32" does not.
    """
    dtype = _HALF_TYPES.get(precision)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False):
        if device.type != "cuda":
            yield
            return
        settings: tuple[Any, ...] = (_backends.cuda.matmul, _backends.cudnn.conv)
        before = [setting.fp32_precision for setting in settings]
        try:
            for setting in settings:
                setting.fp32_precision = "tf32" if precision == TF32 else "ieee"
            yield
        finally:
            for setting, value in zip(settings, before, strict=True):
                setting.fp32_precision = value


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
