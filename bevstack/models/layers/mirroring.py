"""Undoing of mirrored images on their features (v2 specification, section 3.2).

Letters: B batch, N cameras, I images, L levels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bevstack.models.layers.sizes import Sizes


def mirror_back(
    levels: Sequence[Tensor],  # L x (..., C, H_l, W_l)
    mirrored: Tensor,  # (...) bool, True where the network's image is mirrored
    sizes: Sizes | None = None,
) -> tuple[Tensor, ...]:  # L x (..., C, H_l, W_l)
    """Return the features in the order of the unmirrored images, left to right.

    Learned offsets, attitudes and the order of left and right are then those of real cameras.
    Column j of a map of width W_l becomes column W_l - 1 - j, padding included. Without a mirrored
    image, the maps are returned as they are.
    """
    sizes = Sizes() if sizes is None else sizes
    if not sizes.choose("mirrored", mirrored.sum()):
        return tuple(levels)
    chosen = mirrored[..., None, None, None]
    return tuple(torch.where(chosen, level.flip(-1), level) for level in levels)
