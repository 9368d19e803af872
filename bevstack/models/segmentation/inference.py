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

_STRIP_VALUES = 2**25  # of the probabilities that are computed at a time, 128 MiB


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
def label_views(
    predict: Logits,
    views: Sequence[View],  # V
    size: tuple[int, int],  # (H, W) of the result
    *,
    window_px: tuple[int, int] = (0, 0),
    step_px: tuple[int, int] = (0, 0),
) -> Tensor:  # (B, H, W) uint8
    """Return the label of each pixel: the best mean over views of the probabilities.

    Probabilities are computed a few rows at a time, so that the memory depends on the sizes of the
    views, not on that of the result. The arguments are those of ``label_probabilities``.

    Raises:
        ValueError: there is no view.
    """
    height, width = size
    maps = _view_logits(predict, views, window_px=window_px, step_px=step_px)
    batch, outputs = maps[0].shape[:2]
    step = max(_STRIP_VALUES // (batch * outputs * width), 1)
    labels = torch.empty((batch, height, width), dtype=torch.uint8, device=maps[0].device)
    for start in range(0, height, step):
        rows = range(start, min(start + step, height))
        if len(maps) == 1:  # the best logit has the best probability
            scores = resize_rows(maps[0], size, rows)
            scores = scores.flip(-1) if views[0].mirrored else scores
        else:
            scores = _mean_probabilities(maps, views, size, rows)
        labels[:, rows.start : rows.stop] = scores.argmax(1)
    return labels


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
    maps = _view_logits(predict, views, window_px=window_px, step_px=step_px)
    return _mean_probabilities(maps, views, size, range(size[0]))


def _view_logits(
    predict: Logits,
    views: Sequence[View],
    *,
    window_px: tuple[int, int],
    step_px: tuple[int, int],
) -> list[Tensor]:  # V x (B, K, H_v, W_v)
    """Return the logits of each view at its size."""
    if not views:
        raise ValueError("views must hold at least one view; got none")
    maps = []
    for images, mirrored in views:
        seen = images.flip(-1) if mirrored else images
        if window_px == (0, 0):
            maps.append(predict(seen))
        else:
            maps.append(slide_logits(predict, seen, window_px=window_px, step_px=step_px))
    return maps


def _mean_probabilities(
    maps: Sequence[Tensor],  # V x (B, K, H_v, W_v) logits
    views: Sequence[View],
    size: tuple[int, int],  # (H, W)
    rows: range,  # of the result
) -> Tensor:  # (B, K, R, W)
    """Return the mean over views of the probabilities in some rows."""
    total: Tensor | None = None
    for logits, (_, mirrored) in zip(maps, views, strict=True):
        probabilities = resize_rows(logits, size, rows).softmax(1)
        if mirrored:
            probabilities = probabilities.flip(-1)
        total = probabilities if total is None else total.add_(probabilities)
    assert total is not None  # there is at least one view
    return total / len(maps)


def resize_rows(
    maps: Tensor,  # (B, C, H', W')
    size: tuple[int, int],  # (H, W)
    rows: range,  # consecutive ones of 0, ..., H - 1; R of them
) -> Tensor:  # (B, C, R, W)
    """Return some rows of ``resize_map``, up to rounding."""
    height, width = size
    if len(rows) == height:
        return resize_map(maps, size)
    places = torch.arange(rows.start, rows.stop, device=maps.device, dtype=torch.float32)
    places = ((places + 0.5) * (maps.shape[2] / height) - 0.5).clamp(min=0)
    upper = places.long().clamp(max=maps.shape[2] - 1)
    lower = (upper + 1).clamp(max=maps.shape[2] - 1)
    share = (places - upper).to(maps.dtype)[:, None]
    strip = torch.lerp(maps[:, :, upper], maps[:, :, lower], share)
    return resize_map(strip, (len(rows), width))
