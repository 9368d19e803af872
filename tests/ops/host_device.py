"""Code of the CUDA kernels, compiled for the CPU and called through ctypes."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
from collections.abc import Iterable
from ctypes import POINTER, Structure, c_bool, c_double, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent.parent
TYPES = {torch.float64: 0, torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}
LEVELS = 32


class Geometry(Structure):
    _fields_ = (
        [(name, c_int64) for name in ("batch", "height", "width", "out_height", "out_width")]
        + [
            (f"{name}_{axis}", c_int)
            for name in ("kernel_size", "stride", "padding", "dilation")
            for axis in "hw"
        ]
        + [("groups", c_int), ("channels", c_int), ("offset_scale", c_double)]
        + [("remove_center", c_bool), ("softmax", c_bool)]
    )


class Levels(Structure):
    _fields_ = (
        [("images", c_int64), ("rows", c_int64), ("value_index", c_void_p)]
        + [(name, c_int) for name in ("heads", "channels", "levels", "points")]
        + [(name, c_int * LEVELS) for name in ("height", "width", "first")]
        + [("pixels", c_int64), ("bad_index", c_void_p)]
    )


class Tensors(Structure):
    _fields_ = (
        [("value_type", c_int), ("offset_type", c_int)]
        + [(name, c_void_p) for name in ("value", "offset", "factor", "output")]
        + [(name, c_void_p) for name in ("grad_output", "grad_value")]
        + [(name, c_void_p) for name in ("grad_offset", "grad_factor")]
    )


class FixedPoint(Structure):
    _fields_ = (("sums", c_void_p), ("bound", c_void_p), ("size", c_int64), ("log2_count", c_int))


def build(compiler: str, folder: Path) -> ctypes.CDLL:
    """Compile host_device.cpp, which includes the kernels, into ``folder``."""
    built = folder / "host_device.so"
    source = ROOT / "tests" / "ops" / "host_device.cpp"
    command = [compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    command += shlex.split(os.environ.get("CXXFLAGS", ""))  # for sanitizers
    done = subprocess.run(
        [*command, f"-I{ROOT / 'ops'}", str(source), "-o", str(built)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(built))


def geometry_of(input: Tensor, mask: Tensor, options: dict[str, Any]) -> Geometry:
    pairs = {
        f"{name}_{axis}": size
        for name in ("kernel_size", "stride", "padding", "dilation")
        for axis, size in zip("hw", options[name], strict=True)
    }
    batch, height, width, channels = input.shape
    return Geometry(
        batch=batch,
        height=height,
        width=width,
        out_height=mask.shape[1],
        out_width=mask.shape[2],
        groups=options["groups"],
        channels=channels // options["groups"],
        offset_scale=options.get("offset_scale", 1.0),
        remove_center=options.get("remove_center", False),
        softmax=options.get("softmax", False),
        **pairs,
    )


def levels_of(
    value: Tensor, weights: Tensor, spatial_shapes: Iterable[tuple[int, int]], index: Tensor | None
) -> Levels:
    heights, widths = zip(*spatial_shapes, strict=True)
    sizes = [h * w for h, w in zip(heights, widths, strict=True)]
    first = [sum(sizes[:k]) for k in range(len(sizes))]
    return Levels(
        images=value.shape[0],
        rows=weights.shape[0 if index is not None else 1],
        value_index=None if index is None else index.data_ptr(),
        heads=value.shape[2],
        channels=value.shape[3],
        levels=len(sizes),
        points=weights.shape[-1],
        height=(c_int * LEVELS)(*heights),
        width=(c_int * LEVELS)(*widths),
        first=(c_int * LEVELS)(*first),
        pixels=sum(sizes),
    )


class Runner:
    """Calls of both operators' kernels, with the steps of the registered functions."""

    def __init__(self, library: ctypes.CDLL, *, processors: int = 1, fixed_point: bool = False):
        self.library = library
        self.processors = processors
        self.fixed_point = fixed_point
        self.bad_index = torch.zeros(1, dtype=torch.int64)  # as the kernels encode it; 0: none
        self.depth = -1  # channels of the kernel that ran last; 0: the kernel for any number

    def dcnv3(
        self, tensors: Iterable[Tensor], grad_output: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        input, offset, mask = tensors
        geometry = geometry_of(input, mask, options)
        return self._run("run_dcnv3", geometry, (input, offset, mask), grad_output)

    def ms_deform_attn(
        self, tensors: Iterable[Tensor], grad_output: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        value, locations, weights = tensors
        index = options.get("value_index")
        levels = levels_of(value, weights, options["spatial_shapes"], index)
        levels.bad_index = self.bad_index.data_ptr()
        return self._run("run_ms_deform_attn", levels, (value, locations, weights), grad_output)

    def _run(
        self, name: str, shape: Structure, inputs: tuple[Tensor, ...], grad_output: Tensor
    ) -> tuple[Tensor, ...]:
        value, offset, factor = (t.contiguous() for t in inputs)
        grad_output = grad_output.contiguous()
        assert offset.dtype == factor.dtype and grad_output.dtype == value.dtype
        output = torch.full_like(grad_output, torch.nan)
        grad_offset, grad_factor = (torch.full_like(t, torch.nan) for t in (offset, factor))
        wide = torch.float64 if value.dtype == torch.float64 else torch.float32
        grad_value = torch.zeros_like(value, dtype=value.dtype if self.fixed_point else wide)
        tensors = Tensors(
            value_type=TYPES[value.dtype],
            offset_type=TYPES[offset.dtype],
            value=value.data_ptr(),
            offset=offset.data_ptr(),
            factor=factor.data_ptr(),
            output=output.data_ptr(),
        )
        call = getattr(self.library, name)
        call.argtypes = (POINTER(type(shape)), POINTER(Tensors), POINTER(FixedPoint), c_int)
        self.depth = call(shape, tensors, None, self.processors)
        tensors.grad_output = grad_output.data_ptr()
        tensors.grad_value = grad_value.data_ptr()
        tensors.grad_offset = grad_offset.data_ptr()
        tensors.grad_factor = grad_factor.data_ptr()
        fixed = None
        if self.fixed_point:
            sums, bound = (torch.zeros(n, dtype=torch.int64) for n in (2 * value.numel(), 1))
            count = (factor.numel() - 1).bit_length()
            fixed = FixedPoint(sums.data_ptr(), bound.data_ptr(), value.numel(), count)
        call(shape, tensors, fixed, self.processors)
        return output, grad_value.to(value.dtype), grad_offset, grad_factor
