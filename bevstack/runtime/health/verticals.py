"""Roll of a camera from the upright edges of its pictures: houses, poles, people, vehicles.

The motion of points leaves the rotation about the direction of travel open, which is the roll of a
camera that looks ahead or back. Upright edges show it. Edges above the horizon alone are used,
since markings of the road point anywhere.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bevstack.runtime.health.motion import View

REACH_DEG = 12  # edges that deviate more from the upright are not counted
_MIN_GRADIENT = 60.0  # of Sobel: a step of 15 levels
_MAX_GRADIENT = 200.0  # clearer edges count as much
_MIN_RISE = 0.02  # of a ray above the horizon, 1 degree
_PEAK_DEG = 1  # the peak and its neighbours on both sides


@dataclass(frozen=True)
class Tilt:
    """Deviation of the upright edges from the direction that the calibration predicts."""

    angle_deg: float
    prominence: float  # edges at this deviation, divided by those at none
    edges: float  # number of clear edge pixels at this deviation


def upright_edges(
    grey: NDArray[np.uint8],  # (h, w)
    view: View,
) -> NDArray[np.float64]:  # (2 REACH_DEG + 1,) edge pixels by degrees of deviation
    """Count the edge pixels above the horizon by their deviation from the upright."""
    height, width = grey.shape
    focal, center = view.intrinsics[(0, 1), (0, 1)], view.intrinsics[:2, 2]
    x = (np.arange(width) + 0.5 - center[0])[None] / focal[0]
    y = (np.arange(height) + 0.5 - center[1])[:, None] / focal[1]
    up = view.ego_from_cam[2, :3]  # the ego's z axis in the camera's frame
    rise = up[0] * x + up[1] * y + up[2]
    across, along = up[0] - x * up[2], up[1] - y * up[2]  # direction of an upright line
    grad_x = cv2.Sobel(grey, cv2.CV_32F, 1, 0)
    grad_y = cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    size = np.hypot(grad_x, grad_y)
    rows, columns = np.nonzero((size > _MIN_GRADIENT) & (rise > _MIN_RISE))
    edge_x, edge_y = -grad_y[rows, columns], grad_x[rows, columns]  # along the edge
    line_x = np.broadcast_to(across, grey.shape)[rows, columns]
    line_y = np.broadcast_to(along, grey.shape)[rows, columns]
    sine = line_x * edge_y - line_y * edge_x
    cosine = line_x * edge_x + line_y * edge_y
    deviation = np.degrees(np.arctan(sine / np.where(cosine == 0, 1e-9, cosine)))
    weights = np.minimum(size[rows, columns], _MAX_GRADIENT) / _MAX_GRADIENT
    bins = np.arange(-REACH_DEG - 0.5, REACH_DEG + 1.0)
    return np.histogram(deviation, bins, weights=weights)[0].astype(np.float64)


def fit_tilt(histograms: Collection[NDArray[np.float64]]) -> Tilt:
    """Return the deviation at which most upright edges of several pictures lie."""
    total = np.sum(list(histograms), axis=0)
    near = np.convolve(total, np.ones(2 * _PEAK_DEG + 1), mode="valid")
    peak = int(near.argmax()) + _PEAK_DEG
    middle = len(total) // 2 - _PEAK_DEG
    return Tilt(
        float(peak - len(total) // 2),
        float(near[peak - _PEAK_DEG] / max(near[middle], 1.0)),
        float(near[peak - _PEAK_DEG]) / max(len(histograms), 1),
    )
