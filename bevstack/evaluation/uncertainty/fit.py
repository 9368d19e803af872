"""Fit of the model of uncertainty to matched boxes, by the greatest likelihood.

The negative log-likelihood of a normal error whose log deviation is linear is convex, and so is
that of a logistic probability: the fit has one solution. A weak normal prior keeps parameters
finite where there is no data. Letters: K matches, G groups, F features, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from bevstack.config.tracking import TrackingConfig
from bevstack.evaluation.uncertainty.matched import Errors, MatchedBoxes, errors_of
from bevstack.evaluation.uncertainty.scaled import (
    groups_of,
    scaled_errors,
    uncertainty_of,
    whitened,
)
from bevstack.types import Boxes3D
from bevstack.types.uncertainty import ELLIPSES, LEVELS
from bevstack.uncertainty.calibration import GROUPS, BoxCalibration
from bevstack.uncertainty.model import BoxModel, box_features, score_logit

Floats = NDArray[np.float64]

PRIOR_STD = 3.0  # of every parameter around that of all groups together: weak
MIN_GROUP = 100  # matched boxes from which a group has radii of its own
MIN_RADIUS = 1e-3  # also where half of the errors are exactly 0, so that an ellipse has an area
WRAPS = 3  # half turns on either side that a wrapped normal error is summed over


def fit_calibration(
    detected: MatchedBoxes,
    tracked: MatchedBoxes,
    tracking: TrackingConfig,
    fitted_on: dict[str, object],
) -> BoxCalibration:
    """Return the calibration of the greatest likelihood.

    Raises:
        ValueError: no box is matched.
    """
    for name, boxes in (("detections", detected), ("tracks", tracked)):
        if not bool(boxes.is_matched.any()):
            raise ValueError(
                f"{name} must match at least one true box; got none of {len(boxes.truth)}: fit on "
                "a split where the weights find objects"
            )
    return BoxCalibration(
        groups=GROUPS,
        detections=fit_model(detected),
        tracks=fit_model(tracked),
        tracking=tracking,
        fitted_on={
            **fitted_on,
            "matched_detections": int(detected.is_matched.sum()),
            "matched_tracks": int(tracked.is_matched.sum()),
        },
    )


def fit_model(boxes: MatchedBoxes) -> BoxModel:
    """Fit the model of one kind of stream."""
    rows = boxes.is_matched
    errors = errors_of(boxes)
    group = groups_of(boxes)
    features = features_of(boxes)[rows]
    matched_group = group[rows]

    def spread(values: Tensor) -> Tensor:  # (K, n) errors of unit variance but for the spread
        return fit_spread(values, features, matched_group)

    spreads = {
        name: spread(column[:, None])
        for name, column in (
            ("elevation", errors.elevation),
            *zip(("length", "width", "height"), errors.size.T, strict=True),
        )
    }
    spreads["yaw"] = fit_axis_spread(errors.axis, features, matched_group)
    if boxes.covariance is None:
        spreads["along"], spreads["across"] = (
            spread(errors.along[:, None]),
            spread(errors.across[:, None]),
        )
        spreads["velocity"] = spread(errors.velocity)
    else:
        covariance = boxes.covariance[rows]
        spreads["position"] = spread(whitened(errors.position, covariance[:, :2, :2]))
        spreads["velocity"] = spread(whitened(errors.velocity, covariance[:, 2:, 2:]))
    model = BoxModel(
        spreads=spreads,
        existence=_fit_existence(boxes, group),
        flip=_flip_shares(errors, matched_group),
        radii=torch.ones(len(GROUPS), len(ELLIPSES), len(LEVELS), dtype=torch.float64),
    )
    return replace(model, radii=_fit_radii(model, boxes, matched_group))


def _fit_radii(model: BoxModel, boxes: MatchedBoxes, group: Tensor) -> Tensor:  # (G, 5, 2)
    """Return the quantiles of the scaled errors: radii that hold the wanted shares of the boxes.

    Errors have heavier tails than normal ones, so that no covariance gives both levels. A group
    of few boxes takes the quantiles of all.
    """
    scaled = scaled_errors(boxes, uncertainty_of(model, boxes))
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    radii = []
    for number in range(len(GROUPS)):
        own = []
        for name in ELLIPSES:
            known = ~scaled[name].isnan()
            rows = known & (group == number)
            rows = rows if int(rows.sum()) >= MIN_GROUP else known
            own.append(torch.quantile(scaled[name][rows], levels).clamp(min=MIN_RADIUS))
        radii.append(torch.stack(own))
    return torch.stack(radii)


def features_of(boxes: MatchedBoxes) -> Tensor:  # (M, F)
    """Return the features of boxes, each seen from the vehicle of its sample."""
    found = boxes.detections.boxes
    shift = torch.nn.functional.pad(boxes.ego_position, (0, 1))
    local = Boxes3D(found.center - shift, found.size, found.yaw, found.velocity)
    return box_features(local, boxes.detections.scores, shift.new_zeros(2))


def fit_spread(
    errors: Tensor,  # (K, n) with NaN in unknown rows
    features: Tensor,  # (K, F)
    group: Tensor,  # (K,)
) -> Tensor:  # (G + F,)
    """Fit the log deviation of normal errors."""
    known = ~errors.isnan().any(1)
    design = _design(features[known], group[known])
    squares = (errors[known] ** 2).sum(1).numpy()
    axes = errors.shape[1]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        value = design @ parameters
        scaled = squares * np.exp(-2 * np.clip(value, -10, 10))
        return float(np.sum(axes * value + scaled / 2)), design.T @ (axes - scaled)

    return _minimised(loss, len(GROUPS), design.shape[1])


def fit_axis_spread(
    errors: Tensor,  # (K,) radians within a right angle
    features: Tensor,  # (K, F)
    group: Tensor,  # (K,)
) -> Tensor:  # (G + F,)
    """Fit the log deviation of normal errors that are wrapped to the period pi."""
    design = _design(features, group)
    images = errors.numpy()[:, None] + math.pi * np.arange(-WRAPS, WRAPS + 1)  # (K, W)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        value = np.clip(design @ parameters, -8, math.log(2.0))
        squares = images**2 * np.exp(-2 * value)[:, None]
        weights = np.exp(-squares / 2 + squares.min(1, keepdims=True) / 2)
        total = weights.sum(1)
        slope = 1 - (weights * squares).sum(1) / total
        loss = np.sum(value - np.log(total) + squares.min(1) / 2)
        return float(loss), design.T @ slope

    return _minimised(loss, len(GROUPS), design.shape[1])


def _design(features: Tensor, group: Tensor) -> Floats:  # (K, G + F)
    groups = torch.nn.functional.one_hot(group, len(GROUPS)).to(torch.float64)
    return torch.cat((groups, features), 1).numpy()


def _minimised(
    loss: Callable[[Floats], tuple[float, Floats]], groups: int, count: int
) -> Tensor:  # (P,)
    """Find the least loss with the prior: offsets lie around their mean, slopes around 0."""

    def with_prior(parameters: Floats) -> tuple[float, Floats]:
        value, slope = loss(parameters)
        deviation = parameters.copy()
        deviation[:groups] -= parameters[:groups].mean()
        value += float(deviation @ deviation) / (2 * PRIOR_STD**2)
        return value, slope + deviation / PRIOR_STD**2

    found = minimize(with_prior, np.zeros(count), jac=True, method="L-BFGS-B")
    return torch.from_numpy(found.x)


def _fit_existence(boxes: MatchedBoxes, group: Tensor) -> Tensor:  # (2, G, 2)
    """Fit the logistic probability that a box has a true box, with a box in the frame and without.

    Platt, "Probabilistic Outputs for Support Vector Machines", 1999; the prior replaces his
    smoothed labels. Slopes stay positive, so that a better score never means a less certain object.
    """
    logits, correct = score_logit(boxes.detections.scores), boxes.is_matched
    tables = []
    for has_box in (True, False):
        rows = [(boxes.seen == has_box) & (group == number) for number in range(len(GROUPS))]
        tables.append([fit_logistic(logits[own].numpy(), correct[own].numpy()) for own in rows])
    return torch.tensor(tables, dtype=torch.float64)


def fit_logistic(logits: Floats, labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Return offset and slope of a logistic probability; (0, 1) without data."""
    sign = np.where(labels, -1.0, 1.0)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        offset, slope = parameters
        margin = sign * (offset + slope * logits)
        value = np.logaddexp(0, margin).sum() + (offset**2 + (slope - 1) ** 2) / 2 / PRIOR_STD**2
        weight = sign / (1 + np.exp(-margin))
        gradient = np.array((weight.sum(), weight @ logits))
        return float(value), gradient + np.array((offset, slope - 1)) / PRIOR_STD**2

    found = minimize(
        loss, np.array((0.0, 1.0)), jac=True, method="L-BFGS-B", bounds=((None, None), (0.01, None))
    )
    return float(found.x[0]), float(found.x[1])


def _flip_shares(errors: Errors, group: Tensor) -> Tensor:  # (G,)
    """Return the share of reversed headings in each group, by Laplace's rule of succession."""
    count = torch.bincount(group, minlength=len(GROUPS)).to(torch.float64)
    flipped = torch.bincount(group[errors.flipped], minlength=len(GROUPS))
    return (flipped + 1) / (count + 2)
