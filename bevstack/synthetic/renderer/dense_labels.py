"""Depth and semantic class of each pixel, from a z-buffer (numba)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bevstack.synthetic.renderer.compiled import compiled_nogil

CM_PER_M = 100.0
MOST_CM = 65535.0  # greatest depth in 16 bits
SKY = 0  # class of a ray that hits nothing
_HORIZON = -0.004  # steepness above which the shading draws sky, not ground


@compiled_nogil
def label_pixels(
    depth: NDArray[np.float64],  # (H * factor, W * factor)
    owner: NDArray[np.int32],  # (H * factor, W * factor)
    classes: NDArray[np.uint8],  # (P,)
    origin: NDArray[np.float64],  # (3,)
    scene_from_cam: NDArray[np.float64],  # (3, 3)
    intrinsics: NDArray[np.float64],  # (3, 3)
    surface: NDArray[np.uint8],  # (rows, columns)
    surface_classes: NDArray[np.uint8],  # (kinds,)
    corner: NDArray[np.float64],  # (2,)
    texels_per_m: float,
    factor: int,
    depth_cm: NDArray[np.uint16],  # (H, W) out
    semantic: NDArray[np.uint8],  # (H, W) out
) -> None:
    """Write the depth and the class of each pixel's ray.

    Args:
        depth: from `raycast.rasterise`, along the optical axis, m.
        owner: from `raycast.rasterise`.
        classes: semantic class of each primitive.
        origin: camera centre in the scene, m.
        scene_from_cam: rotation.
        intrinsics: px, of the supersampled image.
        surface: `Ground.surface`; ground outside has its kind 0.
        surface_classes: semantic class of each kind of surface.
        corner: x and y of the ground's outer corner, m.
        texels_per_m: resolution of `surface`.
        factor: supersamples per axis. The sample at index factor // 2 of both axes is the label's:
            the centre of the pixel for an odd factor, else half a sample right of and below it.
        depth_cm: centimetres along the optical axis; 0 for the sky and beyond `MOST_CM`.
        semantic: class of the first surface that the ray hits.
    """
    height, width = semantic.shape
    for out_row in range(height):
        row = out_row * factor + factor // 2
        cy = (row + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
        for out_col in range(width):
            col = out_col * factor + factor // 2
            cx = (col + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
            t, p = depth[row, col], owner[row, col]
            label = SKY
            if p >= 0:
                label = classes[p]
            else:
                t = 0.0
                dz = scene_from_cam[2, 0] * cx + scene_from_cam[2, 1] * cy + scene_from_cam[2, 2]
                if dz < _HORIZON:
                    t = -origin[2] / dz
                    dx = scene_from_cam[0, 0] * cx + scene_from_cam[0, 1] * cy
                    dy = scene_from_cam[1, 0] * cx + scene_from_cam[1, 1] * cy
                    x = origin[0] + t * (dx + scene_from_cam[0, 2]) - corner[0]
                    y = origin[1] + t * (dy + scene_from_cam[1, 2]) - corner[1]
                    i, j = int(np.floor(y * texels_per_m)), int(np.floor(x * texels_per_m))
                    kind = 0
                    if 0 <= i < surface.shape[0] and 0 <= j < surface.shape[1]:
                        kind = surface[i, j]
                    label = surface_classes[kind]
            cm = t * CM_PER_M + 0.5
            depth_cm[out_row, out_col] = np.uint16(cm) if cm <= MOST_CM else np.uint16(0)
            semantic[out_row, out_col] = label
