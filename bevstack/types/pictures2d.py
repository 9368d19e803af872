"""Single pictures as a detector sees them, the objects in them, and what it finds.

Letters: B batch, T objects, D detections, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PictureSize:
    """Sizes of a picture, each (height, width) in pixels."""

    original: tuple[int, int]
    resized: tuple[int, int]  # at the network's input, without padding
    padded: tuple[int, int]  # with the padding of this picture alone

    def scale(self, device: torch.device | None = None) -> Tensor:  # (4,) x, y, x, y
        """Return the factors from pixels of the picture to pixels of the network's input.

        They differ a little, as each side is rounded to whole pixels.
        """
        y, x = (new / old for new, old in zip(self.resized, self.original, strict=True))
        return torch.tensor([x, y, x, y], device=device)


@dataclass(frozen=True, kw_only=True)
class PictureObjects:
    """Labelled objects of one picture, in pixels of the network's input."""

    boxes: Tensor  # (T, 4) left, top, right, bottom
    labels: Tensor  # (T,) int64
    masks: Tensor | None = None  # (T, H, W) uint8; None: no masks are known

    def to(self, device: torch.device | str) -> PictureObjects:
        """Return the objects on a device."""
        masks = None if self.masks is None else self.masks.to(device)
        return PictureObjects(
            boxes=self.boxes.to(device), labels=self.labels.to(device), masks=masks
        )


@dataclass(frozen=True, kw_only=True)
class PictureBatch:
    """Pictures of one pass, with their objects in training."""

    images: Tensor  # (B, 3, H, W) normalised, zero in the padding
    sizes: tuple[PictureSize, ...]  # B
    names: tuple[str, ...]  # B, for messages
    objects: tuple[PictureObjects, ...] = ()  # B in training, else none
    seeds: tuple[int, ...] = ()  # B in training: of the random choice of samples

    @property
    def sample_tokens(self) -> tuple[str, ...]:
        """Return the names of the pictures."""
        return self.names

    @property
    def num_images(self) -> int:
        """Return the number of pictures."""
        return len(self.sizes)

    def to(self, device: torch.device | str) -> PictureBatch:
        """Return the batch on a device."""
        objects = tuple(objects.to(device) for objects in self.objects)
        return replace(self, images=self.images.to(device), objects=objects)


@dataclass(frozen=True, kw_only=True)
class Detections2D:
    """Objects that a detector found in one picture, in its own pixels, best first."""

    boxes: Tensor  # (D, 4) left, top, right, bottom
    scores: Tensor  # (D,) 0 to 1
    labels: Tensor  # (D,) int64
    mask_values: Tensor | None = None  # (D, cells, cells) 0 to 1 within the box; None: no masks

    def __len__(self) -> int:
        """Return the number of detections."""
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Detections2D:
        """Return the detections on a device."""
        values = self.mask_values
        return Detections2D(
            boxes=self.boxes.to(device),
            scores=self.scores.to(device),
            labels=self.labels.to(device),
            mask_values=None if values is None else values.to(device),
        )
