"""Coverage of calibrated uncertainty: the share of true values inside ellipses and intervals.

Two kinds of ellipses are measured: those whose radii are fitted, and those that follow from the
covariances if errors are normal. Letters: K matches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi2, norm
from torch import Tensor

from bevstack.evaluation.analysis.calibration import reliability
from bevstack.evaluation.uncertainty.fit import WRAPS
from bevstack.evaluation.uncertainty.matched import MatchedBoxes, errors_of
from bevstack.evaluation.uncertainty.scaled import scaled_errors
from bevstack.types.uncertainty import ELLIPSES, LEVELS, BoxUncertainty

AXES = {
    "position": 2,
    "elevation": 1,
    "size": 3,
    "velocity": 2,
}  # of the ellipses but the heading's


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Shares of true values inside the ellipses of ``LEVELS``."""

    count: int  # matched boxes whose true value is known
    fitted: tuple[float, ...]  # ellipses of the fitted radii
    normal: tuple[float, ...]  # ellipses of normal errors


def coverages(
    boxes: MatchedBoxes,
    uncertainty: BoxUncertainty,  # of all M boxes
) -> dict[str, Coverage]:
    """Return the coverage of each of ``ELLIPSES`` over the matched boxes."""
    rows = boxes.is_matched
    scaled, known = scaled_errors(boxes, uncertainty), uncertainty[rows]
    found = {}
    for number, name in enumerate(ELLIPSES):
        radius = scaled[name]
        if name == "yaw":
            level = wrapped_level(errors_of(boxes).axis, known.yaw_rad2.sqrt())
        else:
            level = torch.from_numpy(chi2.cdf(radius.numpy() ** 2, AXES[name]))
        valid = ~radius.isnan()
        limits = known.radii[:, number]
        found[name] = Coverage(
            count=int(valid.sum()),
            fitted=tuple(_share((radius <= limits[:, i])[valid]) for i in range(len(LEVELS))),
            normal=tuple(_share((level <= limit)[valid]) for limit in LEVELS),
        )
    return found


def wrapped_level(
    errors: Tensor,  # (K,) radians within a right angle
    deviation: Tensor,  # (K,) of the normal error before it is wrapped to the period pi
) -> Tensor:  # (K,)
    """Return the probability that a wrapped normal error is smaller."""
    limit, sigma = errors.abs().numpy()[:, None], deviation.numpy()[:, None]
    shift = math.pi * np.arange(-WRAPS, WRAPS + 1)
    mass = norm.cdf((shift + limit) / sigma) - norm.cdf((shift - limit) / sigma)
    return torch.from_numpy(mass.sum(1))


def calibration_error(
    probability: NDArray[np.float64],  # (M,)
    correct: NDArray[np.bool_],  # (M,)
) -> float:
    """Return the expected calibration error in bins of equal width (arXiv 1706.04599).

    NaN without a box.
    """
    return reliability("all", probability, correct).expected_calibration_error


def _share(inside: Tensor) -> float:
    return float(inside.to(torch.float64).mean())
