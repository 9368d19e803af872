"""Operators of other projects, loaded from compiled extensions and called on our inputs.

Their sources need patches to build with a current torch, so the extensions stay outside this
project. A peer is given as the extension file:

    dcnv3   classification/ops_dcnv3 of OpenGVLab/InternImage (DCNv3.*.so)
    dcnv4   DCNv4_op of OpenGVLab/DCNv4 (DCNv4/ext.*.so)
    mmcv    mmcv built with its operators (mmcv/_ext.*.so)
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

PEERS = {"dcnv3": "dcnv3", "dcnv4": "dcnv3", "mmcv": "ms_deform_attn"}  # peer: our operator
IM2COL_STEP = 256  # maximum number of images per step: all of them
_THREADS = 512  # maximum of DCNv4's forward blocks; backward blocks have at most half of it
_PIXELS = 64  # maximum number of pixels per block


class Calls(NamedTuple):
    """A side's two passes. ``pack`` converts our tensors beforehand and is not timed."""

    pack: Callable[[Sequence[Tensor]], list[Tensor]]  # our operator's inputs to the side's layout
    forward: Callable[[Sequence[Tensor]], Tensor]
    backward: Callable[[Sequence[Tensor], Tensor], Any]


def load_extension(path: Path) -> ModuleType:
    """Import a compiled extension from its file.

    Raises:
        FileNotFoundError: The file does not exist.
    """
    if not path.is_file():
        raise FileNotFoundError(f"a peer must be a compiled extension file; got {path}")
    name = path.name.split(".", 1)[0]
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def dcnv3_calls(module: Any, groups: int, depth: int, scale: float) -> Calls:
    """Return the calls of DCNv3 with a 3x3 kernel, stride 1."""
    window = (3, 3, 1, 1, 1, 1, 1, 1, groups, depth, scale)

    def forward(tensors: Sequence[Tensor]) -> Tensor:
        return module.dcnv3_forward(*tensors, *window, IM2COL_STEP, 0)

    def backward(tensors: Sequence[Tensor], grad_output: Tensor) -> Any:
        return module.dcnv3_backward(*tensors, *window, grad_output, IM2COL_STEP, 0)

    return Calls(list, forward, backward)


def dcnv4_calls(module: Any, groups: int, depth: int, scale: float) -> Calls:
    """Return the calls of DCNv4 with a 3x3 kernel, stride 1, without softmax (DCNv4 has none)."""
    window = (3, 3, 1, 1, 1, 1, 1, 1, groups, depth, scale, IM2COL_STEP)

    def pack(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensors[0], pack_offsets(tensors[1], tensors[2], groups)]

    def forward(tensors: Sequence[Tensor]) -> Tensor:
        pixels = tensors[0].shape[:3].numel()
        stride = 8
        threads = block_pixels(pixels, groups * depth // stride, _THREADS) * groups * depth
        return module.dcnv4_forward(*tensors, *window, 0, stride, threads // stride, False)

    def backward(tensors: Sequence[Tensor], grad_output: Tensor) -> Any:
        pixels = tensors[0].shape[:3].numel()
        stride = 2 if depth >= 64 else 1
        threads = block_pixels(pixels, groups * depth // stride, _THREADS // 2) * groups * depth
        return module.dcnv4_backward(
            *tensors, *window, grad_output, 0, stride, threads // stride, False
        )

    return Calls(pack, forward, backward)


def pack_offsets(offset: Tensor, mask: Tensor, groups: int) -> Tensor:
    """Return DCNv4's layout: offsets and masks of each group, padded to a multiple of eight."""
    by_group = (t.unflatten(-1, (groups, -1)) for t in (offset, mask))
    packed = torch.cat(tuple(by_group), dim=-1).flatten(-2)  # (B, Y, X, G * 27)
    missing = -packed.shape[-1] % 8
    return torch.nn.functional.pad(packed, (0, missing)).contiguous()


def block_pixels(pixels: int, threads_per_pixel: int, max_threads: int) -> int:
    """Return the pixels per block by DCNv4's rule for sizes that its table does not list.

    It is the largest divisor of ``pixels`` that fits a block.
    """
    divisors = (m for m in range(1, _PIXELS + 1) if pixels % m == 0)
    return max([m for m in divisors if m * threads_per_pixel <= max_threads], default=1)


def mmcv_calls(module: Any, shapes: Sequence[tuple[int, int]], device: torch.device) -> Calls:
    """Return the calls of mmcv's multi-scale deformable attention."""
    areas = torch.tensor([h * w for h, w in shapes])
    levels = torch.tensor(shapes, device=device)
    starts = (areas.cumsum(0) - areas).to(device)

    def split(tensors: Sequence[Tensor]) -> list[Tensor]:
        value, locations, weights = tensors
        return [value, levels, starts, locations, weights]

    def forward(tensors: Sequence[Tensor]) -> Tensor:
        return module.ms_deform_attn_forward(*split(tensors), im2col_step=IM2COL_STEP)

    def backward(tensors: Sequence[Tensor], grad_output: Tensor) -> Any:
        grads = [torch.zeros_like(t) for t in tensors]
        module.ms_deform_attn_backward(
            *split(tensors), grad_output, *grads, im2col_step=IM2COL_STEP
        )
        return grads

    return Calls(list, forward, backward)
