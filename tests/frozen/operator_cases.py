"""Frozen cases of the operators: values and gradients, checked against plain loops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bevstack import ops
from tests.frozen.case import Case, Tensors, agree_all, draw
from tests.ops import naive

DEFAULTS = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
DCNV3: Mapping[str, dict[str, Any]] = {
    "plain": {**DEFAULTS, "groups": 2},
    "unequal": {
        "kernel_size": (3, 5),
        "stride": (2, 1),
        "padding": (3, 1),
        "dilation": (2, 1),
        "groups": 3,
        "offset_scale": 1.5,
    },
    "even_kernel": {**DEFAULTS, "kernel_size": (2, 4), "padding": (0, 2), "groups": 1},
    "softmax": {**DEFAULTS, "groups": 2, "softmax": True, "offset_scale": 2.0},
    "without_centre": {
        **DEFAULTS,
        "padding": (2, 1),
        "groups": 4,
        "remove_center": True,
        "softmax": True,
    },
    "far_and_nan": {**DEFAULTS, "groups": 2},
}
# Edges of the map, integer positions, and far, NaN and infinite positions. With padding 1 they are
# offsets of the kernel's centre from pixel (0, 0).
EDGE_POSITIONS = (-1.0, 0.0, 5.0, 6.0, -1.5, 1e9, -1e30, math.nan, math.inf, -math.inf, 5.5)

LEVELS = ((3, 5), (2, 1), (4, 2))
IMAGES = (2, 0, 0, 1, 2, 2, 0)  # of the packed rows: unordered, repeated


def dcnv3_inputs(name: str) -> tuple[Tensor, ...]:
    options = DCNV3[name]
    size, depth, groups = (5, 6), 3, options["groups"]
    rows, columns = options["kernel_size"]
    points = (rows * columns - int(options.get("remove_center", False))) * groups
    geometry = (options[key] for key in DEFAULTS)
    output = ops.dcnv3_output_size(size, *geometry)
    offset = draw(f"{name}.offset", 2, *output, points * 2)
    if name == "far_and_nan":
        count = len(offset.flatten()[::7])
        offset.view(-1)[::7] = torch.tensor(EDGE_POSITIONS).repeat(count)[:count].double()
        offset = offset.float().double()
    return (
        draw(f"{name}.input", 2, *size, groups * depth),
        offset,
        draw(f"{name}.mask", 2, *output, points),
        draw(f"{name}.grad_output", 2, *output, groups * depth),
    )


def dcnv3(name: str, dtype: torch.dtype = torch.float64) -> Tensors:
    *tensors, grad_output = (t.to(dtype) for t in dcnv3_inputs(name))
    leaves = [t.requires_grad_() for t in tensors]
    output = ops.dcnv3(*leaves, **DCNV3[name])
    gradients = torch.autograd.grad(output, leaves, grad_output)
    names = ("grad_input", "grad_offset", "grad_mask")
    return {"output": output, **dict(zip(names, gradients, strict=True))}


def verify_dcnv3(name: str, found: Tensors) -> None:
    arrays = [t.numpy() for t in dcnv3_inputs(name)]
    looped = naive.dcnv3(*arrays, **DCNV3[name])
    names = ("output", "grad_input", "grad_offset", "grad_mask")
    wanted = {key: torch.from_numpy(a) for key, a in zip(names, looped, strict=True)}
    agree_all(found, wanted, 1e-12)


def attention_inputs(name: str) -> tuple[Tensor, ...]:
    """Return value, locations, weights and gradient of the output; rows (2, 4) or packed."""
    rows = (len(IMAGES),) if name == "packed" else (2, 4)
    pixels = sum(height * width for height, width in LEVELS)
    locations = 0.5 + 0.4 * draw(f"{name}.locations", *rows, 3, len(LEVELS), 2, 2)
    if name == "far_and_nan":
        count = len(locations.flatten()[::5])
        edge_positions = torch.tensor(EDGE_POSITIONS).repeat(count)[:count]
        locations.view(-1)[::5] = edge_positions.double()
    return (
        draw(f"{name}.value", 3 if name == "packed" else 2, pixels, 3, 4),
        locations.float().double(),
        draw(f"{name}.weights", *rows, 3, len(LEVELS), 2),
        draw(f"{name}.grad_output", *rows, 12),
    )


def ms_deform_attn(name: str, dtype: torch.dtype = torch.float64) -> Tensors:
    *tensors, grad_output = (t.to(dtype) for t in attention_inputs(name))
    leaves = [t.requires_grad_() for t in tensors]
    value, locations, weights = leaves
    index = torch.tensor(IMAGES) if name == "packed" else None
    output = ops.ms_deform_attn(value, LEVELS, locations, weights, value_index=index)
    gradients = torch.autograd.grad(output, leaves, grad_output)
    names = ("grad_value", "grad_locations", "grad_weights")
    return {"output": output, **dict(zip(names, gradients, strict=True))}


def verify_ms_deform_attn(name: str, found: Tensors) -> None:
    value, locations, weights, grad_output = (t.numpy() for t in attention_inputs(name))
    images = IMAGES if name == "packed" else [0] * 4 + [1] * 4
    looped = naive.ms_deform_attn(
        value,
        LEVELS,
        locations.reshape(-1, *locations.shape[-4:]),
        weights.reshape(-1, *weights.shape[-3:]),
        images,
        grad_output.reshape(-1, 12),
    )
    names = ("output", "grad_value", "grad_locations", "grad_weights")
    wanted = {
        key: torch.from_numpy(a).view(found[key].shape)
        for key, a in zip(names, looped, strict=True)
    }
    agree_all(found, wanted, 1e-12)


CASES = {
    **{f"dcnv3.{n}": Case(partial(dcnv3, n), partial(verify_dcnv3, n)) for n in DCNV3},
    **{
        f"ms_deform_attn.{n}": Case(partial(ms_deform_attn, n), partial(verify_ms_deform_attn, n))
        for n in ("plain", "packed", "far_and_nan")
    },
}
