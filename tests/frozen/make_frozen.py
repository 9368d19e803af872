"""Writes cases.safetensors, the numbers that test_frozen.py holds the project to.

    python -m tests.frozen.make_frozen

It may be run again only when a number is meant to change (an operator's definition, a default that
a case uses, the name of a parameter, by which its value is drawn) or a case is added, and the
commit that brings the new file says which numbers changed and why. A case that test_frozen.py
finds changed for any other reason is a fault, and running this would hide it.

Nothing is written unless every case agrees with its independent path: the naive loops of the
tests for values, their definition as a difference quotient for gradients, and for everything that
samples places both kernels, compiled and reference.
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
from tests.frozen.kernels import served_by


def numbers_of(name: str, case: Case) -> dict[str, Tensor]:
    """What is to be stored of a case.

    Raises:
        AssertionError: an independent path, or the other kernel, says something else.
    """
    with served_by("reference"):
        found = case.compute()
        case.verify(found)
    with served_by("dispatched"):
        again = frozen(name, case, case.compute())
    numbers = frozen(name, case, found)
    for key, tensor in numbers.items():
        agree(key, again[key], tensor, TOLERANCE.get(tensor.dtype, 0.0))
    return numbers


def write(path: Path, cases: Mapping[str, Case]) -> None:
    """Writes the numbers of the cases, or nothing where one of them is not right."""
    numbers: dict[str, Tensor] = {}
    for name, case in cases.items():
        try:
            numbers |= numbers_of(name, case)
        except AssertionError as error:
            raise AssertionError(f"{name} is not fit to be frozen: {error}") from error
    size = sum(tensor.numel() * tensor.element_size() for tensor in numbers.values())
    if size > MAX_BYTES:
        raise AssertionError(f"the cases must fit into {MAX_BYTES} bytes; got {size}")
    write_safetensors(path, numbers, {})


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(FILE, CASES)
    sys.stdout.write(f"{len(CASES)} cases, {FILE.stat().st_size} bytes: {FILE}\n")
