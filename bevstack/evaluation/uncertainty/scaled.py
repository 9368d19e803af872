"""Errors of matched boxes in units of their standard deviations. Letters: K matches."""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.evaluation.uncertainty.matched import MatchedBoxes, errors_of
from bevstack.types import Boxes3D
from bevstack.types.uncertainty import BoxUncertainty
from bevstack.uncertainty.calibration import GROUPS, group_numbers
from bevstack.uncertainty.model import BoxModel
from bevstack.vocabulary import DETECTION_CLASSES


def uncertainty_of(model: BoxModel, boxes: MatchedBoxes) -> BoxUncertainty:
    """Return the uncertainty of boxes, each seen from the vehicle of its sample."""
    shift = torch.nn.functional.pad(boxes.ego_position, (0, 1))
    found = boxes.detections.boxes
    return model.uncertainty(
        Boxes3D(found.center - shift, found.size, found.yaw, found.velocity),
        boxes.detections.scores,
        groups_of(boxes),
        ego_position=shift.new_zeros(2),
        covariance=boxes.covariance,
        seen=boxes.seen,
    )


def groups_of(boxes: MatchedBoxes) -> Tensor:  # (M,)
    """Return the group of each box's class."""
    return torch.tensor(group_numbers(GROUPS, DETECTION_CLASSES))[boxes.detections.labels]


def scaled_errors(
    boxes: MatchedBoxes,
    uncertainty: BoxUncertainty,  # of all M boxes
) -> dict[str, Tensor]:  # (K,) each, NaN where the true value is unknown
    """Return each matched box's distance from the truth in standard deviations (Mahalanobis)."""
    rows = boxes.is_matched
    errors, known = errors_of(boxes), uncertainty[rows]
    sizes = boxes.detections.boxes.size[rows]
    position = whitened(errors.position, known.position_m2[:, :2, :2])
    velocity = whitened(errors.velocity, known.velocity_m2ps2)
    return {
        "position": torch.linalg.vector_norm(position, dim=1),
        "elevation": errors.elevation.abs() / known.elevation_m2.sqrt(),
        "size": torch.linalg.vector_norm(errors.size * sizes / known.size_m2.sqrt(), dim=1),
        "yaw": errors.axis.abs() / known.yaw_rad2.sqrt(),
        "velocity": torch.linalg.vector_norm(velocity, dim=1),
    }


def whitened(
    errors: Tensor,  # (K, n)
    covariance: Tensor,  # (K, n, n)
) -> Tensor:  # (K, n)
    """Return errors in units of their standard deviations, without their correlations."""
    roots = torch.linalg.cholesky(covariance)
    solved: Tensor = torch.linalg.solve_triangular(roots, errors[:, :, None], upper=False)
    return solved[..., 0]
