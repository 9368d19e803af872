"""The bird's-eye-view grid: the rectangle of the ``bev`` frame that the BEV tokens tile."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bevstack.geometry.constants import constant

FRAMES = ("ego", "lidar")


def nominal_bev_from_ego(frame: str) -> Tensor:  # (4, 4) float64
    """Return the default ``bev_from_ego``, for a rig that gives none.

    For "ego" the ``bev`` frame is the ego frame. For "lidar" it is nuScenes' nominal LIDAR_TOP
    frame: x right, y forward, z up, 0.944 m in front of and 1.840 m above the ego origin. Weights
    that were trained in that frame need it. No rig needs a lidar.

    Raises:
        ValueError: ``frame`` is neither "ego" nor "lidar".
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

    ``frame`` selects the ``bev`` frame: the ego frame (x forward, y left, z up), or nuScenes'
    LIDAR_TOP frame (x right, y forward, z up) for published weights that need it. Normalised
    coordinates run from 0 to 1 over each range.

    Raises:
        ValueError: an empty range, a shape that is not two positive cell counts, or an unknown
            frame.
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
        """Return the lower corner (x, y, z)."""
        return (self.x_range_m[0], self.y_range_m[0], self.z_range_m[0])

    @property
    def extent_m(self) -> tuple[float, float, float]:
        """Return the extent along (x, y, z)."""
        ranges = (self.x_range_m, self.y_range_m, self.z_range_m)
        x, y, z = (high - low for low, high in ranges)
        return (x, y, z)

    def cell_centers(
        self, dtype: torch.dtype = torch.float32, *, device: torch.device | None = None
    ) -> Tensor:  # (Y*X, 2)
        """Return the normalised (x, y) of each cell centre, row-major: index = row * X + column."""
        rows, columns = self.shape
        y = (torch.arange(rows, dtype=dtype, device=device) + 0.5) / rows
        x = (torch.arange(columns, dtype=dtype, device=device) + 0.5) / columns
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        return torch.stack((grid_x, grid_y), -1).reshape(-1, 2)

    def pillar_points(
        self,
        num_heights: int,
        dtype: torch.dtype = torch.float32,
        *,
        device: torch.device | None = None,
    ) -> Tensor:  # (Y*X, Z, 3) normalised
        """Return the anchors of each cell's pillar, lowest first.

        This follows BEVFormer (arXiv 2203.17270), section 3.3. Let E be the extent along z in
        metres. Anchor k of Z lies at (0.5 + k (E - 1) / (Z - 1)) / E of the range. The outermost
        anchors are thus half a metre inside the range, as published weights expect. A single anchor
        lies in the middle.
        """
        extent_z = self.extent_m[2]
        if num_heights == 1:
            z = torch.full((1,), 0.5, dtype=dtype, device=device)
        else:
            z = torch.linspace(0.5, extent_z - 0.5, num_heights, dtype=dtype, device=device)
            z = z / extent_z
        xy = self.cell_centers(dtype, device=device)
        cells = xy.shape[0]
        xy = xy[:, None].expand(cells, num_heights, 2)
        return torch.cat((xy, z[None, :, None].expand(cells, num_heights, 1)), -1)

    def to_metres(
        self,
        normalised: Tensor,  # (..., 3)
    ) -> Tensor:  # (..., 3) metres in the bev frame
        """Convert normalised coordinates to metres."""
        extent, low = constant(normalised, self.extent_m), constant(normalised, self.low_m)
        return normalised * extent + low

    def to_normalised(
        self,
        points_m: Tensor,  # (..., 3) metres in the bev frame
    ) -> Tensor:  # (..., 3)
        """Convert metres to normalised coordinates, 0 to 1 inside the grid."""
        extent, low = constant(points_m, self.extent_m), constant(points_m, self.low_m)
        return (points_m - low) / extent

    def contains(
        self,
        points_m: Tensor,  # (..., 2 or 3) metres in the bev frame
    ) -> Tensor:  # (...,) bool
        """Return True for points strictly inside the rectangle seen from above (z is ignored)."""
        x, y = points_m[..., 0], points_m[..., 1]
        inside_x = (x > self.x_range_m[0]) & (x < self.x_range_m[1])
        return inside_x & (y > self.y_range_m[0]) & (y < self.y_range_m[1])
