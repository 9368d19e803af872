"""Sums that losses are divided by, over the processes of a training run."""

from __future__ import annotations

from torch import Tensor, distributed


def mean_over_processes(
    value: Tensor,  # (...) without gradient
) -> Tensor:  # (...)
    """The mean of a value over all processes; the value itself where there is one process.

    A reduction is a collective: every process must call it equally often.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
