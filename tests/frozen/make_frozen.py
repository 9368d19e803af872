"""Program that writes cases.safetensors, the numbers that test_frozen.py compares with.

    python -m tests.frozen.make_frozen

Run it only if a case is added or a number is meant to change: by an operator's definition, a
default that a case uses, or the name of a parameter, which seeds its value. The commit with the new
file must state which numbers changed and why. If test_frozen.py reports a change for any other
reason, that is a bug, and running this program would hide it.

The program writes nothing unless every case agrees with an independent computation: naive loops for
values, difference quotients for gradients. Cases with an operator must also agree between the
compiled and the reference kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bevstack.models.weights import write_safetensors
from tests.frozen.case import TOLERANCE, Case, agree, frozen
from tests.frozen.cases import CASES, FILE, MAX_BYTES
from tests.frozen.kernels import use_kernel


def numbers_of(name: str, case: Case) -> dict[str, Tensor]:
    """Return the numbers to store of a case.

    Raises:
        AssertionError: An independent computation, or the other kernel, disagrees.
    """
    with use_kernel("reference"):
        found = case.compute()
        case.verify(found)
    with use_kernel("dispatched"):
        dispatched = frozen(name, case, case.compute())
    numbers = frozen(name, case, found)
    for key, tensor in numbers.items():
        agree(key, dispatched[key], tensor, TOLERANCE.get(tensor.dtype, 0.0))
    return numbers


def write(path: Path, cases: Mapping[str, Case]) -> None:
    """Write the numbers of all cases, or nothing if one case fails its checks."""
    numbers: dict[str, Tensor] = {}
    for name, case in cases.items():
        try:
            numbers |= numbers_of(name, case)
        except AssertionError as error:
            raise AssertionError(f"{name} must pass its checks to be frozen: {error}") from error
    size = sum(tensor.numel() * tensor.element_size() for tensor in numbers.values())
    if size > MAX_BYTES:
        raise AssertionError(f"the cases must fit into {MAX_BYTES} bytes; got {size}")
    write_safetensors(path, numbers, {})


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(FILE, CASES)
    sys.stdout.write(f"{len(CASES)} cases, {FILE.stat().st_size} bytes: {FILE}\n")
