"""Sizes of tensors that depend on the data: exact ones, or bounds that need no wait for the device.

With bounds a forward pass has the same shapes and the same operators for every frame, so that a GPU
can capture it and a compiler sees one graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MARGIN = 1.25  # room for later frames of the same rig
# fields of Bounds in their order, with the steps in which they grow
_ROUNDING = {"pairs": 256, "candidates": 64, "rounds": 4, "mirrored": 1}


@dataclass(frozen=True)
class Bounds:
    """Upper bounds of the counts in a forward pass.

    If a count exceeds its bound, the output is incomplete and must not be used.
    """

    pairs: int  # visible (camera, query) pairs of one frame
    candidates: int  # boxes of an image that take part in suppression
    rounds: int  # rounds until suppression changes nothing
    mirrored: int  # mirrored images; 0 saves undoing it

    def holds(self, counts: Bounds) -> bool:
        """Return True if no count exceeds its bound."""
        return all(getattr(counts, name) <= getattr(self, name) for name in _ROUNDING)

    def widened(self, counts: Bounds) -> Bounds:
        """Return bounds with room for counts like the given ones, and at least as large as these.

        Bounds grow in steps, so that they seldom change.
        """
        return Bounds(
            **{
                name: max(getattr(self, name), _rounded_up(getattr(counts, name) * _MARGIN, step))
                for name, step in _ROUNDING.items()
            }
        )


NO_BOUNDS = Bounds(pairs=0, candidates=0, rounds=0, mirrored=0)


class Sizes:
    """Choice of the data-dependent sizes in one forward pass, and the counts that it saw.

    Args:
        bounds: the sizes to use; None uses the counts, for which the host waits.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds
        self._counts: dict[str, list[Tensor]] = {name: [] for name in _ROUNDING}

    def choose(
        self,
        name: str,  # a field of Bounds
        count: Tensor,  # () int64
    ) -> int:
        """Return the bound, or the count if there are no bounds, and note the count."""
        self._counts[name].append(count)
        bound: int = int(count) if self.bounds is None else getattr(self.bounds, name)
        return bound

    def note(
        self,
        name: str,  # a field of Bounds
        count: Tensor,  # () int64
    ) -> None:
        """Add a count to those of this pass."""
        self._counts[name].append(count)

    def largest(self, device: torch.device) -> Tensor:  # (4,) int64, in the order of Bounds
        """Return the largest counts; 0 where there was none."""
        zero = torch.zeros((), dtype=torch.int64, device=device)
        return torch.stack([_largest(counts, zero) for counts in self._counts.values()])


def _largest(counts: Sequence[Tensor], zero: Tensor) -> Tensor:
    largest = zero
    for count in counts:
        largest = torch.maximum(largest, count)
    return largest


def _rounded_up(count: float, step: int) -> int:
    return -int(-count // step) * step
