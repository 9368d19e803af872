"""Projection of the grid's pillars into the cameras, computed once a frame.

Letters: B batch, N cameras, Q grid cells, Z heights, M visible pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.geometry import BEVGrid, CameraRig, constant
from bevstack.models.layers.sizes import Sizes
from bevstack.shapes import expect_shape

OUTSIDE = -16.0  # image widths: coordinate of the anchors of padding rows


@dataclass(frozen=True)
class VisiblePairs:
    """The (camera, query) pairs of a batch in which the camera sees an anchor of the pillar.

    The last rows may be padding: their query is B * Q, one more than the last, and their anchors
    lie far outside any image.
    """

    camera: Tensor  # (M,) int64, sample * N + camera; 0 for padding
    query: Tensor  # (M,) int64, sample * Q + cell; B * Q for padding
    # (M, Z, 2) float32, (x, y) in [0, 1] over the padded image, mirrored back, or outside it
    anchors: Tensor
    num_cameras: Tensor  # (B, Q) int64, number of cameras that see a cell


def find_visible_pairs(
    rig: CameraRig,  # leading axes (B,)
    grid: BEVGrid,
    *,
    num_heights: int,
    padded_size: tuple[int, int],  # (H, W) pixels of the images the features cover
    capacity_step: int = 1,
    sizes: Sizes | None = None,
) -> VisiblePairs:
    """Project every pillar into every camera (BEVFormer, arXiv 2203.17270, section 3.3).

    An anchor is visible if it is in front of a working camera and strictly inside its image
    without the padding. Anchors outside the image keep their projected coordinates. Each sample
    has its own rig. Computed in float64 up to the last division. Anchors of mirrored images are
    mirrored back, x' = 1 - x over the padded image, as the encoder mirrors their features back.

    The number of pairs depends on the data. Without bounds in ``sizes`` the host waits for it: M is
    the number of pairs rounded up to a multiple of ``capacity_step``, so that code compiled for one
    M serves many frames and rigs, and no pair is dropped. With bounds M is the bound times B.

    Raises:
        ValueError: the rig's leading axes are not (B,), or ``capacity_step`` is below 1.
    """
    if capacity_step < 1:
        raise ValueError(f"capacity_step must be positive; got {capacity_step}")
    sizes = Sizes() if sizes is None else sizes
    shape = expect_shape("rig.camera_mask", rig.camera_mask, ("B", "N"))
    anchors = grid.pillar_points(num_heights, torch.float64, device=rig.intrinsics.device)
    cells = anchors.shape[0]  # anchors (Q, Z, 3)
    uv_px, depth_m = rig.project(grid.to_metres(anchors).flatten(0, 1))  # (B, N, Q * Z, ...)
    axes = (cells, num_heights)
    visible = torch.unflatten(rig.visible(uv_px, depth_m), -1, axes)  # (B, N, Q, Z)
    height, width = padded_size
    uv = torch.unflatten(uv_px / constant(uv_px, (width, height)), 2, axes)  # (B, N, Q, Z, 2)
    cell_visible = visible.any(-1)  # (B, N, Q)
    rows = _visible_rows(cell_visible, sizes, capacity_step)  # (M, 3)
    missing = rows[:, 0] < 0
    sample, camera, cell = rows.clamp(min=0).unbind(-1)  # (M,) each
    x, y = uv[sample, camera, cell].unbind(-1)  # (M, Z) each
    x = torch.where(rig.mirrored[sample, camera, None], 1 - x, x)
    inside = torch.stack((x, y), -1).to(torch.float32)
    return VisiblePairs(
        camera=(sample * shape["N"] + camera).masked_fill(missing, 0),
        query=(sample * cells + cell).masked_fill(missing, shape["B"] * cells),
        anchors=inside.masked_fill(missing[:, None, None], OUTSIDE),
        num_cameras=cell_visible.sum(1),
    )


def _visible_rows(
    cell_visible: Tensor,  # (B, N, Q) bool
    sizes: Sizes,
    capacity_step: int,
) -> Tensor:  # (M, 3) int64
    """Return sample, camera and cell of every visible pair, and -1 in padding rows."""
    samples = cell_visible.shape[0]
    if sizes.bounds is not None:
        most = cell_visible.flatten(1).sum(1).amax(0) if samples else cell_visible.sum()
        capacity = sizes.choose("pairs", most) * samples
        return torch.nonzero_static(cell_visible, size=capacity, fill_value=-1)
    rows = cell_visible.nonzero()
    sizes.note("pairs", cell_visible.flatten(1).sum(1).amax(0) if samples else rows.sum())
    return functional.pad(rows, (0, 0, 0, -rows.shape[0] % capacity_step), value=-1)
