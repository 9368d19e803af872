"""Spread of a model's outputs, by which training notices outputs that no longer vary.

Letters: M rows, C components.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def spreads(
    name: str,
    values: Tensor,  # (M, C), or (M,) for one component
    components: Sequence[str] = (),
) -> dict[str, Tensor]:  # each ()
    """Return the largest minus the smallest value of each component; NaN for fewer than two rows.

    Args:
        name: name of the output, and of the result for a single component.
        values: the output at the rows that the losses train.
        components: names of the components, which follow ``name`` after a dot.
    """
    columns = values.detach()[:, None] if values.dim() == 1 else values.detach()
    names = [f"{name}.{part}" for part in components] or [name]
    if len(columns) < 2:
        found = columns.new_full((columns.shape[1],), torch.nan)
    else:
        found = columns.amax(0) - columns.amin(0)
    return dict(zip(names, found.unbind(), strict=True))
