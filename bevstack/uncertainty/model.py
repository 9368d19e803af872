"""Model of the errors of boxes: log-linear standard deviations and a logistic existence.

The logarithm of each standard deviation is linear in three features of the box, with an own offset
for each group of classes: the distance, the score and the speed. Letters: D boxes, G groups, F
features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bevstack.shapes import expect_shape
from bevstack.types import Boxes3D
from bevstack.types.uncertainty import ELLIPSES, LEVELS, BoxUncertainty

FEATURES = ("log_distance", "score_logit", "log_speed")
# Standard deviations that a model gives. Those of a size are shares of it. A detector's centre errs
# along the line of sight and across it. For tracks, "position" and "velocity" are factors on the
# deviations of the tracker's own covariance.
BOX_SPREADS = ("elevation", "length", "width", "height", "yaw")
DETECTION_SPREADS = ("along", "across", "velocity", *BOX_SPREADS)
TRACK_SPREADS = ("position", "velocity", *BOX_SPREADS)

REFERENCE_DISTANCE_M = 20.0  # distance at which the feature is 0
MIN_DISTANCE_M = 2.0  # errors grow no smaller than they are here
_MAX_SCORE_LOGIT = 6.0
_MAX_LOG_SPREAD = math.log(1000.0)  # of a deviation, which a fit reaches for no box
UNKNOWN_SPEED_STD_MPS = 100.0  # of a box without a velocity: large, so that it has no weight


@dataclass(frozen=True, kw_only=True)
class BoxModel:
    """Parameters of the uncertainty of boxes from one kind of stream.

    Raises:
        ValueError: shapes that do not agree, or a spread is missing.
    """

    spreads: Mapping[str, Tensor]  # of TRACK_SPREADS or DETECTION_SPREADS: (G + F,) float64
    existence: Tensor  # (2, G, 2) offset and slope of the logit: with a box in the frame, without
    flip: Tensor  # (G,) probability that a heading is reversed
    radii: Tensor  # (G, 5, 2) of the ellipses, see ``BoxUncertainty.radii``

    def __post_init__(self) -> None:
        groups = len(self.flip)
        wanted = TRACK_SPREADS if self.for_tracks else DETECTION_SPREADS
        if set(self.spreads) != set(wanted):
            raise ValueError(
                f"spreads must be {', '.join(wanted)}; got {', '.join(sorted(self.spreads))}"
            )
        for name, value in self.spreads.items():
            expect_shape(name, value, (groups + len(FEATURES),))
        expect_shape("existence", self.existence, (2, groups, 2))
        expect_shape("flip", self.flip, (groups,))
        expect_shape("radii", self.radii, (groups, len(ELLIPSES), len(LEVELS)))

    @property
    def for_tracks(self) -> bool:
        """Return True if the model scales the covariances of a tracker."""
        return "position" in self.spreads

    def uncertainty(
        self,
        boxes: Boxes3D,
        scores: Tensor,  # (D,)
        group: Tensor,  # (D,) int64
        *,
        ego_position: Tensor,  # (2,) metres, in the frame of the boxes
        covariance: Tensor | None = None,  # (D, 4, 4) of a tracker: x, y, vx, vy
        seen: Tensor | None = None,  # (D,) bool: has a box in this frame; None: all have
    ) -> BoxUncertainty:
        """Return the uncertainty of boxes, float64, in their frame.

        Raises:
            ValueError: ``covariance`` is missing for a model of tracks, or given for another one.
        """
        if self.for_tracks != (covariance is not None):
            wanted = "be given for tracks" if self.for_tracks else "be None for detections"
            raise ValueError(
                f"covariance must {wanted}; got {'None' if self.for_tracks else 'one'}"
            )
        boxes, scores = boxes.to(torch.float64), scores.to(torch.float64)
        features = box_features(boxes, scores, ego_position.to(torch.float64))

        def spread(name: str) -> Tensor:  # (D,)
            return log_spread(self.spreads[name], features, group).exp()

        if covariance is None:
            along, across = spread("along"), spread("across")
            state = detection_state(boxes, ego_position, along, across, spread("velocity"))
        else:
            state = scale_state(covariance, spread("position"), spread("velocity"))
        shares = torch.stack([spread(name) for name in ("length", "width", "height")], -1)
        has_box = torch.ones_like(group, dtype=torch.bool) if seen is None else seen
        offset, slope = self.existence[(~has_box).to(torch.int64), group].unbind(-1)
        return BoxUncertainty(
            state=state,
            elevation_m2=spread("elevation") ** 2,
            size_m2=(shares * boxes.size) ** 2,
            yaw_rad2=spread("yaw") ** 2,
            flip=self.flip[group],
            radii=self.radii[group],
            existence=(offset + slope * score_logit(scores)).sigmoid(),
        )


def box_features(
    boxes: Boxes3D,  # float64
    scores: Tensor,  # (D,)
    ego_position: Tensor,  # (2,)
) -> Tensor:  # (D, F)
    """Return the features of boxes, in the order of ``FEATURES``."""
    distance = torch.linalg.vector_norm(boxes.center[:, :2] - ego_position, dim=-1)
    speed = torch.linalg.vector_norm(boxes.velocity.nan_to_num(nan=0.0), dim=-1)
    return torch.stack(
        (
            (distance.clamp(min=MIN_DISTANCE_M) / REFERENCE_DISTANCE_M).log(),
            score_logit(scores),
            speed.log1p(),
        ),
        -1,
    )


def score_logit(scores: Tensor) -> Tensor:
    """Return the logits of scores, at most 6 on either side."""
    low = 1 / (1 + math.exp(_MAX_SCORE_LOGIT))
    clamped = scores.clamp(low, 1 - low)
    return (clamped / (1 - clamped)).log()


def log_spread(
    parameters: Tensor,  # (G + F,)
    features: Tensor,  # (D, F)
    group: Tensor,  # (D,)
) -> Tensor:  # (D,)
    """Return the logarithms of standard deviations."""
    groups = len(parameters) - features.shape[1]
    value = parameters[:groups][group] + features @ parameters[groups:]
    return value.clamp(-_MAX_LOG_SPREAD, _MAX_LOG_SPREAD)


def sight_axes(
    centers: Tensor,  # (D, 2)
    ego_position: Tensor,  # (2,)
) -> Tensor:  # (D, 2, 2), rows: along, across
    """Return the directions along the lines of sight, and across them to the left."""
    sight = centers - ego_position
    distance = torch.linalg.vector_norm(sight, dim=-1, keepdim=True)
    forward = sight.new_tensor((1.0, 0.0))  # any direction will do for a box at the vehicle
    along = torch.where(distance > 0, sight / distance, forward)
    return torch.stack((along, torch.stack((-along[:, 1], along[:, 0]), -1)), 1)


def detection_state(
    boxes: Boxes3D,
    ego_position: Tensor,  # (2,)
    along: Tensor,  # (D,) metres
    across: Tensor,  # (D,) metres
    velocity: Tensor,  # (D,) metres per second, along each axis
) -> Tensor:  # (D, 4, 4)
    """Return the covariances of position and velocity of a detector's boxes."""
    axes = sight_axes(boxes.center[:, :2], ego_position.to(torch.float64))
    scaled = torch.stack((along, across), -1)[:, :, None] * axes
    state = scaled.new_zeros(len(boxes), 4, 4)
    state[:, :2, :2] = scaled.mT @ scaled
    known = ~boxes.velocity.isnan().any(-1)
    deviation = torch.where(known, velocity, UNKNOWN_SPEED_STD_MPS)
    state[:, 2:, 2:] = torch.diag_embed((deviation**2)[:, None].expand(-1, 2))
    return state


def scale_state(
    covariance: Tensor,  # (D, 4, 4) of x, y, vx, vy
    position: Tensor,  # (D,)
    velocity: Tensor,  # (D,)
) -> Tensor:  # (D, 4, 4)
    """Multiply the standard deviations of a tracker by factors; its correlations stay."""
    factors = torch.stack((position, position, velocity, velocity), -1)
    return factors[:, :, None] * covariance.to(torch.float64) * factors[:, None]
