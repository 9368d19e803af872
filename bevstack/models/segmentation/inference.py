"""Labels of pictures: from the whole picture, from windows, and as a mean over several views.

Letters: B batch, K outputs, H W of the images, V views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.models.segmentation.heads import resize_map

Logits = Callable[[Tensor], Tensor]  # (B, 3, H, W) -> (B, K, H, W)


class View(NamedTuple):
    """A picture as the network sees it: at one size, mirrored or not."""

    images: Tensor  # (B, 3, H, W) normalised
    mirrored: bool = False


def window_corners(side: int, window: int, step: int) -> list[int]:
    """Return the first pixels of windows along a side; the last window ends with the side."""
    count = max(side - window + step - 1, 0) // step + 1
    return [max(min(index * step, side - window), 0) for index in range(count)]


def slide_logits(
    predict: Logits,
    images: Tensor,  # (B, 3, H, W)
    *,
    window_px: tuple[int, int],
    step_px: tuple[int, int],
) -> Tensor:  # (B, K, H, W)
    """Return the mean of the logits of all windows that hold a pixel."""
    height, width = images.shape[-2:]
    total: Tensor | None = None
    count = images.new_zeros((1, 1, height, width))
    for top in window_corners(height, window_px[0], step_px[0]):
        for left in window_corners(width, window_px[1], step_px[1]):
            rows, columns = slice(top, top + window_px[0]), slice(left, left + window_px[1])
            logits = predict(images[..., rows, columns])
            if total is None:
                total = logits.new_zeros((*logits.shape[:2], height, width))
            total[..., rows, columns] += logits
            count[..., rows, columns] += 1
    assert total is not None  # there is at least one window
    return total / count


@torch.no_grad()
def label_probabilities(
    predict: Logits,
    views: Sequence[View],  # V
    size: tuple[int, int],  # (H, W) of the result
    *,
    window_px: tuple[int, int] = (0, 0),
    step_px: tuple[int, int] = (0, 0),
) -> Tensor:  # (B, K, H, W)
    """Return the mean over views of the probabilities at a size.

    Args:
        predict: gives logits at the size of its images.
        views: the pictures at different sizes.
        size: of the original pictures.
        window_px: (height, width) of windows whose logits are averaged; (0, 0): whole pictures.
        step_px: from one window to the next.

    Raises:
        ValueError: there is no view.
    """
    if not views:
        raise ValueError("views must hold at least one view; got none")
    total: Tensor | None = None
    for images, mirrored in views:
        seen = images.flip(-1) if mirrored else images
        if window_px == (0, 0):
            logits = predict(seen)
        else:
            logits = slide_logits(predict, seen, window_px=window_px, step_px=step_px)
        probabilities = resize_map(logits, size).softmax(1)
        if mirrored:
            probabilities = probabilities.flip(-1)
        total = probabilities if total is None else total.add_(probabilities)
    assert total is not None
    return total / len(views)
