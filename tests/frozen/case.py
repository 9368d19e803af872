"""Frozen cases: their definition, the storage of their numbers, and comparison.

All inputs and weights come from ``draw``: uniform numbers of numpy's RandomState, seeded by the
crc32 of a name. numpy guarantees that its stream never changes. torch's generators and logarithms
(which normal numbers would need) are not used.
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

# Relative to the largest magnitude of a tensor, by the type of the arithmetic. Another CPU,
# instruction set or torch computes sums in another order, and its exp, erf and sin differ in the
# last bit. The largest measured differences are 3e-15 in float64 and 7e-7 in float32, over torch
# without vectors, with AVX2 and with AVX-512, compiled and reference kernels. The margin allows for
# other libraries, whose blocking of sums and whose rounding of the few float32 numbers inside the
# network (anchors) may differ more.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}

WHOLE = 200  # a tensor with at most this number of entries is stored completely
PROJECTIONS = 8
PARAMETER = "parameter."  # prefix of parameter names among a module's inputs
ENTRIES = 55  # stored entries of a large tensor, at most


@dataclass(frozen=True)
class Case:
    """Numbers to store: their computation, and their check against an independent one."""

    compute: Callable[[], Tensors]
    verify: Callable[[Tensors], None]  # raises if an independent computation disagrees
    absolute: float = 0.0  # absolute tolerance, added to that of the type
    whole: bool = False  # store every entry of a large tensor


def draw(name: str, *shape: int) -> Tensor:  # float64
    """Return uniform numbers with mean 0 and deviation 1, exact in float32, seeded by the name."""
    uniform = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape)
    numbers = (2 * uniform - 1) * math.sqrt(3)
    return torch.from_numpy(np.asarray(numbers, np.float32).astype(np.float64))


def fill(module: nn.Module, name: str) -> nn.Module:
    """Return the module in float64 and evaluation mode, with all state drawn by name."""
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
    """Return the tensor, or for a large one its norm, projections of all entries, and some entries.

    The weights of a projection have deviation 1, so an error d of one entry changes it by about d.
    All numbers of a digest have the magnitude of the norm.
    """
    tensor = tensor.detach().contiguous()
    if whole or tensor.numel() <= WHOLE:
        return tensor
    assert tensor.is_floating_point(), f"{name}: a large integer tensor needs a case with whole"
    flat = tensor.double().flatten()
    projections = [draw(f"{name}/{k}", flat.numel()) @ flat for k in range(PROJECTIONS)]
    entries = flat[:: -(-flat.numel() // ENTRIES)]
    return torch.cat((torch.stack((flat.norm(), *projections)), entries)).to(tensor.dtype)


def frozen(name: str, case: Case, tensors: Tensors) -> dict[str, Tensor]:
    """Return the stored numbers of a case.

    Of each gradient to a parameter they hold only a norm and a projection.
    """
    prefix = f"grad.{PARAMETER}"
    stored = {key: t for key, t in tensors.items() if not key.startswith(prefix)}
    rows = [
        torch.stack((t.norm(), (draw(f"{name}/{key}", *t.shape).to(t) * t).sum()))
        for key, t in sorted(tensors.items())
        if key.startswith(prefix)
    ]
    if rows:
        stored["grad.parameters"] = torch.stack(rows)
    return {f"{name}/{k}": digest(f"{name}/{k}", t, whole=case.whole) for k, t in stored.items()}


def agree(name: str, got: Tensor, wanted: Tensor, tolerance: float, absolute: float = 0.0) -> None:
    """Assert that got is within tolerance times the largest magnitude wanted; NaN equals NaN."""
    if got.shape != wanted.shape:
        raise AssertionError(
            f"{name} must have shape {tuple(wanted.shape)}; got {tuple(got.shape)}"
        )
    got, wanted = got.detach().double(), wanted.detach().double()
    if not torch.equal(got.isnan(), wanted.isnan()):
        raise AssertionError(f"{name} must have NaN in the same entries")
    allowed = absolute + tolerance * max(wanted.nan_to_num().abs().flatten().tolist(), default=0.0)
    error = max((got - wanted).nan_to_num().abs().flatten().tolist(), default=0.0)
    if not error <= allowed:
        raise AssertionError(f"{name} is {error:.3g} off; {allowed:.3g} allowed")


def agree_all(got: Tensors, wanted: Tensors, tolerance: float) -> None:
    """Assert that every tensor of wanted agrees with that of got."""
    for key, tensor in wanted.items():
        agree(key, got[key], tensor, tolerance)
