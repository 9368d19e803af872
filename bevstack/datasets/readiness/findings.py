"""Findings of the checks of a dataset: sentences, with a mark for serious ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Finding:
    """One fault of a dataset."""

    sentence: str  # subject, requirement, actual value, remedy
    matters: bool  # False if training, prediction and scoring work in spite of it


def summarise_faults(
    rule: str,
    faults: NDArray[np.int64] | Sequence[int],
    describe: Callable[[int], str],
    *,
    matters: bool = True,
) -> list[Finding]:
    """Summarise all faults of a kind in one finding, or in none if there is no fault.

    Args:
        rule: "<things> must <be>".
        faults: indices of the faults.
        describe: returns a short description of the fault with an index.
        matters: see `Finding`.

    Returns:
        A list of at most one finding, which describes the first fault and counts the rest.
    """
    if not len(faults):
        return []
    first = describe(int(faults[0]))
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return [Finding(f"{rule}; got {first}{more}", matters=matters)]
