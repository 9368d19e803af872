"""The bird's-eye-view grid: which rectangle of which frame the BEV tokens tile."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FRAMES = ("ego", "lidar")


def nominal_bev_from_ego(frame: str) -> Tensor:  # (4, 4) float64
    """Where the ``bev`` frame lies for a rig that does not say: no lidar is required of anybody.

    "ego": the ego frame itself. "lidar": nuScenes' nominal LIDAR_TOP, x right, y forward, z up,
    0.944 m before and 1.840 m above the ego origin, for weights that were trained in that frame.

    Raises:
        ValueError: an unknown frame.
    """
    if frame == "ego":
        return torch.eye(4, dtype=torch.float64)
    if frame != "lidar":
        raise ValueError(f"frame must be one of {FRAMES}; got {frame!r}")
    rows = ((0.0, -1.0, 0.0, 0.0), (1.0, 0.0, 0.0, -0.944), (0.0, 0.0, 1.0, -1.840))
    return torch.tensor((*rows, (0.0, 0.0, 0.0, 1.0)), dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class BEVGrid:
    """A regular grid of Y rows along y and X columns along x in the ``bev`` frame.

    The ``bev`` frame is the ego frame (x forward, y left, z up), or nuScenes' LIDAR_TOP frame
    (x right, y forward, z up) where published weights ask for it; ``frame`` says which. Normalised
    coordinates run from 0 to 1 over each range.
    """

    x_range_m: tuple[float, float] = (-51.2, 51.2)
    y_range_m: tuple[float, float] = (-51.2, 51.2)
    z_range_m: tuple[float, float] = (-3.2, 4.8)  # DESIGN: ego -3.2..4.8, lidar -5..3
    shape: tuple[int, int] = (200, 200)  # (Y, X) cells
    frame: str = "ego"  # "ego" or "lidar"

    def __post_init__(self) -> None:
        for name in ("x_range_m", "y_range_m", "z_range_m"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(
                    f"grid.{name} must be (low, high) with low < high; got {low, high}"
                )
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise ValueError(
                f"grid.shape must be two positive cell counts (Y, X); got {self.shape}"
            )
        if self.frame not in FRAMES:
            raise ValueError(f"grid.frame must be one of {FRAMES}; got {self.frame!r}")

    @property
    def low_m(self) -> tuple[float, float, float]:
        """Lower corner (x, y, z)."""
        return (self.x_range_m[0], self.y_range_m[0], self.z_range_m[0])

    @property
    def extent_m(self) -> tuple[float, float, float]:
        """Extent along (x, y, z)."""
        ranges = (self.x_range_m, self.y_range_m, self.z_range_m)
        x, y, z = (high - low for low, high in ranges)
        return (x, y, z)

    def cell_centers(self, dtype: torch.dtype = torch.float32) -> Tensor:  # (Y*X, 2)
        """Normalised (x, y) of every cell centre, row-major: index = row * X + column."""
        rows, columns = self.shape
        y = (torch.arange(rows, dtype=dtype) + 0.5) / rows
        x = (torch.arange(columns, dtype=dtype) + 0.5) / columns
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        return torch.stack((grid_x, grid_y), -1).reshape(-1, 2)

    def pillar_points(
        self, num_heights: int, dtype: torch.dtype = torch.float32
    ) -> Tensor:  # (Y*X, Z, 3) normalised
        """Anchors of each cell's pillar, lowest first (BEVFormer, arXiv 2203.17270, section 3.3).

        Height k of Z stands at (0.5 + k (E - 1) / (Z - 1)) / E of the range, E the extent along z
        in metres: the outermost anchors lie half a metre inside the range, as published weights
        expect. A single height stands in the middle.
        """
        extent_z = self.extent_m[2]
        if num_heights == 1:
            z = torch.full((1,), 0.5, dtype=dtype)
        else:
            z = torch.linspace(0.5, extent_z - 0.5, num_heights, dtype=dtype) / extent_z
        xy = self.cell_centers(dtype)
        cells = xy.shape[0]
        xy = xy[:, None].expand(cells, num_heights, 2)
        return torch.cat((xy, z[None, :, None].expand(cells, num_heights, 1)), -1)

    def to_metres(
        self,
        normalised: Tensor,  # (..., 3)
    ) -> Tensor:  # (..., 3) metres in the bev frame
        """Normalised coordinates to metres."""
        return normalised * normalised.new_tensor(self.extent_m) + normalised.new_tensor(self.low_m)

    def to_normalised(
        self,
        points_m: Tensor,  # (..., 3) metres in the bev frame
    ) -> Tensor:  # (..., 3)
        """Metres to normalised coordinates, 0 to 1 inside the grid."""
        return (points_m - points_m.new_tensor(self.low_m)) / points_m.new_tensor(self.extent_m)

    def contains(
        self,
        points_m: Tensor,  # (..., 2 or 3) metres in the bev frame
    ) -> Tensor:  # (...,) bool
        """Whether points lie strictly inside the rectangle seen from above (z is ignored)."""
        x, y = points_m[..., 0], points_m[..., 1]
        inside_x = (x > self.x_range_m[0]) & (x < self.x_range_m[1])
        return inside_x & (y > self.y_range_m[0]) & (y < self.y_range_m[1])
