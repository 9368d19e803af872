"""GridMask (arXiv 2001.04086): part of the images blanked in training, in a regular grid.

BEVFormer v2 specification, section 3.5. For the current frame alone; one mask for all cameras.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PROBABILITY = 0.7  # of a mask at all. Released configurations
STRIPE_RATIO = 0.5  # stripe / period. Released configurations


@dataclass(frozen=True, kw_only=True)
class GridMask:
    """Rows and columns of stripes that stay; all between them is blanked.

    Stripes are counted on a canvas one and a half times the image's size, of which the image is
    the middle. Its first stripe starts at the offset, and there are as many as whole periods fit
    into it; after the last one nothing stays, as in the released code.

    Raises:
        ValueError: a period under 2, or an offset outside the period.
    """

    period: int  # pixels from one stripe to the next, rows and columns alike
    offset_y: int = 0  # first row of the canvas that stays
    offset_x: int = 0  # first column of the canvas that stays

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
        """Width of a stripe, pixels."""
        return min(max(int(self.period * STRIPE_RATIO + 0.5), 1), self.period - 1)

    def kept(self, size: tuple[int, int]) -> NDArray[np.bool_]:  # (H, W)
        """Which pixels of an image of (H, W) stay: those in a stripe of rows or of columns."""
        rows = self._in_stripe(size[0], self.offset_y)
        columns = self._in_stripe(size[1], self.offset_x)
        return rows[:, None] | columns[None, :]

    def apply(
        self,
        images: Tensor,  # (..., H, W), normalised
    ) -> Tensor:  # (..., H, W)
        """The images with zero, the mean colour, where they are blanked."""
        return self.blank_(images.clone())

    def blank_(
        self,
        images: Tensor,  # (..., H, W), normalised
    ) -> Tensor:  # (..., H, W)
        """Likewise, in the images given: a quarter of the time, for those nobody else holds."""
        height, width = (int(side) for side in images.shape[-2:])
        kept = torch.from_numpy(self.kept((height, width))).to(images.device)
        return images.masked_fill_(~kept, 0.0)

    def _in_stripe(self, length: int, offset: int) -> NDArray[np.bool_]:  # (length,)
        canvas = int(1.5 * length)
        place = np.arange(length) + (canvas - length) // 2 - offset
        in_grid = (place >= 0) & (place < canvas // self.period * self.period)
        return in_grid & (place % self.period < self.stripe)


def draw_grid_mask(
    rng: np.random.Generator,
    size: tuple[int, int],  # (H, W) of the padded images
    probability: float = PROBABILITY,
) -> GridMask | None:
    """One sample's mask; None where there is to be none.

    Every parameter is drawn, used or not.

    Raises:
        ValueError: images of fewer than three rows.
    """
    if size[0] < 3:
        raise ValueError(f"size must hold at least 3 rows; got {size[0]}")
    uniform = rng.uniform()
    period = int(rng.integers(2, size[0]))
    offset_y, offset_x = (int(offset) for offset in rng.integers(period, size=2))
    if uniform > probability:
        return None
    return GridMask(period=period, offset_y=offset_y, offset_x=offset_x)
