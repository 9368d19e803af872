"""Normalisers of losses, averaged over the processes of a training run."""

from __future__ import annotations

from torch import Tensor, distributed


def mean_over_processes(
    value: Tensor,  # (...) without gradient
) -> Tensor:  # (...)
    """Return the mean of a value over all processes; with one process, the value itself.

    The reduction is a collective operation: every process must call it equally often.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
