"""What a look at a data set finds: sentences, and whether they matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    sentence: str  # the thing, what was wanted, what was got, the remedy
    matters: bool  # False where training, prediction and scoring do without


def found(
    rule: str,
    faults: NDArray[np.int64] | Sequence[int],
    describe: Callable[[int], str],
    *,
    matters: bool = True,
) -> list[Finding]:
    """One finding for all faults of a kind, none for none.

    Args:
        rule: "<things> must <be>".
        faults: which they are.
        describe: one of them in a few words.
        matters: see `Finding`.
    """
    if not len(faults):
        return []
    first = describe(int(faults[0]))
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return [Finding(f"{rule}; got {first}{more}", matters=matters)]
