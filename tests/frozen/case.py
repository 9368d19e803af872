"""What a frozen case is, how its numbers are stored, and how two sets of them are compared.

Inputs and weights come from ``draw`` alone: uniform numbers of numpy's RandomState, whose stream
numpy promises never to change, seeded by the crc32 of a name. Neither torch's generators nor a
logarithm (which normal numbers would need) has a say in them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

Tensors = Mapping[str, Tensor]

# Of the largest magnitude of a tensor, by the type it is computed in. Another CPU, instruction set
# or torch orders sums differently, and its exp, erf and sin differ in the last bit. Measured over
# torch without vectors, with AVX2 and with AVX-512, compiled and reference kernels: 3e-15 at most
# in float64, 7e-7 in float32. The rest is room for other libraries, whose blocking of sums and
# whose rounding of the few float32 numbers inside the network (anchors) may differ more.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}

WHOLE = 200  # entries up to which a tensor is stored as it is
PROJECTIONS = 8
PARAMETER = "parameter."  # before the names of a module's parameters among its inputs
ENTRIES = 55


@dataclass(frozen=True)
class Case:
    """Numbers to keep: how they come about, and what they must agree with to be kept."""

    compute: Callable[[], Tensors]
    verify: Callable[[Tensors], None]  # raises where an independent path says something else
    absolute: float = 0.0  # tolerated besides what the type allows
    whole: bool = False  # store every entry, however many


def draw(name: str, *shape: int) -> Tensor:  # float64
    """Uniform numbers of mean 0 and deviation 1, exact in float32."""
    uniform = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape)
    numbers = (2 * uniform - 1) * math.sqrt(3)
    return torch.from_numpy(np.asarray(numbers, np.float32).astype(np.float64))


def fill(module: nn.Module, name: str) -> nn.Module:
    """The module in float64 and evaluation mode, every parameter and buffer drawn by its name."""
    module = module.double().eval()
    for key, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        value = draw(f"{name}/{key}", *tensor.shape)
        if key.endswith("running_var"):
            value = 1 + 0.2 * value.abs()
        elif tensor.dim() == 1:
            value = 0.3 * value + float(key.endswith(("weight", "gamma1", "gamma2")))
        else:
            value = value / math.sqrt(tensor[0].numel())
        tensor.copy_(value)
    return module


def digest(name: str, tensor: Tensor, *, whole: bool = False) -> Tensor:
    """The tensor, or of a large one its norm, projections that see every entry, and some entries.

    A projection's weights are of deviation 1, so an entry that is off by d moves it by about d,
    and all numbers of a digest are of the size of the norm.
    """
    tensor = tensor.detach().contiguous()
    if whole or tensor.numel() <= WHOLE:
        return tensor
    assert tensor.is_floating_point(), f"{name}: large integer tensors are to be stored whole"
    flat = tensor.double().flatten()
    projections = [draw(f"{name}/{k}", flat.numel()) @ flat for k in range(PROJECTIONS)]
    entries = flat[:: -(-flat.numel() // ENTRIES)]
    return torch.cat((torch.stack((flat.norm(), *projections)), entries)).to(tensor.dtype)


def frozen(name: str, case: Case, tensors: Tensors) -> dict[str, Tensor]:
    """What the file holds of a case; of gradients to parameters a norm and a projection each."""
    start = f"grad.{PARAMETER}"
    kept = {key: t for key, t in tensors.items() if not key.startswith(start)}
    rows = [
        torch.stack((t.norm(), (draw(f"{name}/{key}", *t.shape).to(t) * t).sum()))
        for key, t in sorted(tensors.items())
        if key.startswith(start)
    ]
    if rows:
        kept["grad.parameters"] = torch.stack(rows)
    return {f"{name}/{k}": digest(f"{name}/{k}", t, whole=case.whole) for k, t in kept.items()}


def agree(name: str, got: Tensor, wanted: Tensor, tolerance: float, absolute: float = 0.0) -> None:
    """Raises unless got is within tolerance times the largest magnitude wanted; NaN equals NaN."""
    if got.shape != wanted.shape:
        raise AssertionError(f"{name} has shape {tuple(got.shape)}, not {tuple(wanted.shape)}")
    got, wanted = got.detach().double(), wanted.detach().double()
    if not torch.equal(got.isnan(), wanted.isnan()):
        raise AssertionError(f"{name} has NaN in other places")
    allowed = absolute + tolerance * max(wanted.nan_to_num().abs().flatten().tolist(), default=0.0)
    error = max((got - wanted).nan_to_num().abs().flatten().tolist(), default=0.0)
    if not error <= allowed:
        raise AssertionError(f"{name} is {error:.3g} off; {allowed:.3g} allowed")


def agree_all(got: Tensors, wanted: Tensors, tolerance: float) -> None:
    """Compares every tensor wanted."""
    for key, tensor in wanted.items():
        agree(key, got[key], tensor, tolerance)
