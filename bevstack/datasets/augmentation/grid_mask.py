"""GridMask (arXiv 2001.04086): blanking of a regular grid of image regions in training.

BEVFormer v2 specification, section 3.5. It applies to the current frame only, with one mask for all
cameras.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PROBABILITY = 0.7  # of drawing a mask at all. Released configurations
STRIPE_RATIO = 0.5  # stripe / period. Released configurations


@dataclass(frozen=True, kw_only=True)
class GridMask:
    """Mask that keeps stripes of rows and columns and blanks the pixels between them.

    Stripes are counted on a canvas one and a half times the image's size, with the image in its
    centre. The first stripe starts at the offset. The number of stripes is the number of whole
    periods that fit into the canvas; everything after the last one is blanked, as in the released
    code.

    Raises:
        ValueError: a period under 2, or an offset outside the period.
    """

    period: int  # pixels from one stripe to the next, of rows and of columns
    offset_y: int = 0  # first row of the canvas that is kept
    offset_x: int = 0  # first column of the canvas that is kept

    def __post_init__(self) -> None:
        if self.period < 2:
            raise ValueError(f"period must be at least 2 pixels; got {self.period}")
        for name in ("offset_y", "offset_x"):
            if not 0 <= getattr(self, name) < self.period:
                raise ValueError(
                    f"{name} must lie in 0..{self.period - 1}; got {getattr(self, name)}"
                )

    @property
    def stripe(self) -> int:
        """Return the width of a stripe in pixels."""
        return min(max(int(self.period * STRIPE_RATIO + 0.5), 1), self.period - 1)

    def kept(self, size: tuple[int, int]) -> NDArray[np.bool_]:  # (H, W)
        """Return True for the kept pixels of an (H, W) image: those in a row or column stripe."""
        rows = self._in_stripe(size[0], self.offset_y)
        columns = self._in_stripe(size[1], self.offset_x)
        return rows[:, None] | columns[None, :]

    def apply(
        self,
        images: Tensor,  # (..., H, W), normalised
    ) -> Tensor:  # (..., H, W)
        """Return a copy of the images with blanked pixels set to 0, the mean colour."""
        return self.blank_(images.clone())

    def blank_(
        self,
        images: Tensor,  # (..., H, W), normalised
    ) -> Tensor:  # (..., H, W)
        """Set blanked pixels to 0 in the given images, in a quarter of the time of ``apply``."""
        height, width = (int(side) for side in images.shape[-2:])
        kept = torch.from_numpy(self.kept((height, width))).to(images.device)
        return images.masked_fill_(~kept, 0.0)

    def _in_stripe(self, length: int, offset: int) -> NDArray[np.bool_]:  # (length,)
        canvas = int(1.5 * length)
        position = np.arange(length) + (canvas - length) // 2 - offset
        in_grid = (position >= 0) & (position < canvas // self.period * self.period)
        return in_grid & (position % self.period < self.stripe)


def draw_grid_mask(
    rng: np.random.Generator,
    size: tuple[int, int],  # (H, W) of the padded images
    probability: float = PROBABILITY,
) -> GridMask | None:
    """Draw the mask of one sample; None with probability 1 - ``probability``.

    Every parameter is drawn, used or not.

    Raises:
        ValueError: the images have fewer than three rows.
    """
    if size[0] < 3:
        raise ValueError(f"size must hold at least 3 rows; got {size[0]}")
    uniform = rng.uniform()
    period = int(rng.integers(2, size[0]))
    offset_y, offset_x = (int(offset) for offset in rng.integers(period, size=2))
    if uniform > probability:
        return None
    return GridMask(period=period, offset_y=offset_y, offset_x=offset_x)
