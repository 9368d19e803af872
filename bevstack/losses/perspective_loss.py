"""Ten losses of the perspective head (DD3D, arXiv 2108.06417; v2 specification, section 11).

Letters: I images, P locations, K classes, M positive rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config.perspective import YAW, PerspectiveConfig
from bevstack.losses.criterion import Losses
from bevstack.losses.focal import sigmoid_focal_loss
from bevstack.losses.perspective_spreads import perspective_spreads
from bevstack.losses.perspective_targets import PerspectiveTargets, assign_targets
from bevstack.losses.reduction import mean_over_processes
from bevstack.models.perspective.decode import decode_boxes, raw_boxes_at
from bevstack.models.perspective.head import PerspectiveOutput
from bevstack.types.perspective import (
    UNKNOWN_ATTRIBUTE,
    CameraAnnotations,
    CameraBoxes,
    rotate,
)

PREFIX = "perspective_"
BOX_PARTS = ("quaternion", "projected_center", "depth", "size")
_FIELDS = ("quaternion", "projected_center_px", "depth_m", "size_m")  # of CameraBoxes
EPS = 1e-6  # lower bound of a sum of weights that divides a loss


class PerspectiveCriterion:
    """Training loss of the perspective head, over the camera images of a batch.

    - Over all locations that are not ignored: focal classification.
    - At positive locations, weighted by centerness: GIoU of the image box; four disentangled corner
      losses of the 3D box; the 3D confidence, trained to exp(-mean corner error in metres); the
      attribute; the speed.
    - At positive locations, unweighted: centerness itself.

    A disentangled loss takes one of attitude, projected centre, depth and size from the prediction
    and the other three from the true box (arXiv 1905.12365, section 4.2).

    Weighted losses are divided by their sum of weights, class and centerness losses by the number
    of positives. The divisors are averaged over processes. The losses are computed in float32 at
    least.

    With ``config.changes.attitude`` "yaw", the squared distance of cosine and sine from the true
    ones replaces the disentangled loss of the attitude. Its weight does not depend on the depth of
    the box. Reason: corners move least if a heading is opposite to the true one, and hardly at all
    for small objects, so corner losses teach headings last.

    Without any positive location, the class loss is that of background alone. Every other loss is
    then 0 times the prediction, so that all parameters stay in the graph.

    ``config.official_parity`` computes the losses of the released code:

    - the smooth-L1 of corners is x^2 / 2 below beta, instead of x^2 / (2 beta), which meets
      |x| - beta / 2 at beta;
    - a box adds to a disentangled loss without bound, instead of ``max_corner_loss_m`` at most (the
      released code discards the result of its clamp);
    - the attribute loss is the plain mean of the cross-entropies, instead of the mean weighted by
      centerness;
    - an image has no positive location if the centre of its first box lies at u = 0.

    Args:
        config: the perspective section of the configuration.
    """

    def __init__(self, config: PerspectiveConfig) -> None:
        self.config = config

    def __call__(
        self,
        output: PerspectiveOutput,
        annotations: Sequence[CameraAnnotations],  # I
        intrinsics: Tensor,  # (I, 3, 3) float64 pixels, of the network's input images
    ) -> Losses:
        """Compute the losses of images; the total is their plain sum (BEVFormer v2's weight is 1).

        Terms are named "perspective_class", "_box2d", "_centerness", "_quaternion",
        "_projected_center", "_depth", "_size", "_confidence", "_attribute", "_speed".

        Raises:
            ValueError: not one entry of annotations and intrinsics per image, labels or attributes
                out of range, or a true box that is not in front of its camera.
        """
        if len(annotations) != output.logits.shape[0]:
            raise ValueError(
                f"annotations must hold one entry per image ({output.logits.shape[0]}); "
                f"got {len(annotations)}"
            )
        targets = assign_targets(
            annotations, intrinsics, output.locations_px, output.level_sizes, self.config
        )
        sums = normalisers(targets)
        terms = {
            **self._image_losses(output, targets, sums),
            **self._box_losses(output, targets, sums),
            **self._motion_losses(output, targets, sums),
        }
        named = {PREFIX + name: value.detach() for name, value in terms.items()}
        spreads = perspective_spreads(output, targets, self.config)
        return Losses(torch.stack(tuple(terms.values())).sum(), named, spreads)

    def _image_losses(
        self, output: PerspectiveOutput, targets: PerspectiveTargets, sums: Normalisers
    ) -> dict[str, Tensor]:
        config = self.config
        one_hot = functional.one_hot(targets.labels, config.num_classes + 1)[..., :-1]
        logits = output.logits
        class_losses = sigmoid_focal_loss(
            logits, one_hot.to(logits.dtype), alpha=config.focal_alpha, gamma=config.focal_gamma
        )
        class_losses = class_losses.masked_fill(targets.ignored[..., None], 0.0)
        rows = (targets.image, targets.location)
        giou = giou_loss(output.ltrb_px[rows], targets.ltrb_px)
        centerness = functional.binary_cross_entropy_with_logits(
            output.centerness[rows], targets.centerness.to(logits.dtype), reduction="sum"
        )
        return {
            "class": config.class_weight * class_losses.sum() / sums.positives,
            "box2d": (targets.centerness * giou).sum() / sums.centerness,
            "centerness": centerness / sums.positives,
        }

    def _box_losses(
        self, output: PerspectiveOutput, targets: PerspectiveTargets, sums: Normalisers
    ) -> dict[str, Tensor]:
        rows = (targets.image, targets.location)
        raw = raw_boxes_at(output, *rows, targets.label)
        boxes = decode_boxes(
            raw,
            targets.label,
            output.locations_px[targets.location],
            targets.boxes.cam_from_image,
            self.config,
        )
        losses = {}
        for name, row_losses in self.disentangled(boxes, targets.boxes).items():
            weighted = (targets.centerness * row_losses).sum() / sums.centerness
            losses[name] = self.config.box3d_weight * weighted
        if self.config.changes.attitude == YAW:
            row_losses = (raw.quaternion[:, :2] - heading(targets.boxes)).square().sum(-1)
            losses["quaternion"] = (targets.centerness * row_losses).sum() / sums.centerness
        confidence = functional.binary_cross_entropy_with_logits(
            output.confidence[targets.image, targets.location, targets.label],
            (-corner_error(boxes, targets.boxes)).exp().to(output.confidence.dtype),
            reduction="none",
        )
        losses["confidence"] = (targets.centerness * confidence).sum() / sums.centerness
        return losses

    def disentangled(
        self, predicted: CameraBoxes, true: CameraBoxes
    ) -> dict[str, Tensor]:  # 4 x (M,)
        """Return each box part's loss by row: mean smooth-L1 of the 24 corner coordinates.

        Args:
            predicted: M boxes.
            true: their M true boxes.

        Returns:
            Losses by name of the part, each (M,).
        """
        true_corners = true.corners()
        beta = self.config.smooth_l1_beta
        losses = {}
        for name, field in zip(BOX_PARTS, _FIELDS, strict=True):
            mixed = replace(true, **{field: getattr(predicted, field)})
            distance = (mixed.corners() - true_corners).abs().flatten(-2)  # (M, 24)
            quadratic = 0.5 * distance.square()
            quadratic = quadratic if self.config.official_parity else quadratic / beta
            loss = torch.where(distance < beta, quadratic, distance - 0.5 * beta).mean(-1)
            if not self.config.official_parity:
                loss = loss.clamp(max=self.config.max_corner_loss_m)
            losses[name] = loss * self._depth_weight(true)
        return losses

    def _depth_weight(self, true: CameraBoxes) -> Tensor | float:  # (M,)
        """Return the weight of a box's corner losses, which decreases with its depth."""
        full = self.config.changes.full_weight_depth_m
        return 1.0 if full is None else (full / true.depth_m).clamp(max=1.0)

    def _motion_losses(
        self, output: PerspectiveOutput, targets: PerspectiveTargets, sums: Normalisers
    ) -> dict[str, Tensor]:
        config = self.config
        rows = (targets.image, targets.location)
        known = targets.attribute != UNKNOWN_ATTRIBUTE
        labels = targets.attribute.clamp(min=0)  # any valid label where the attribute is unknown
        entropy = functional.cross_entropy(output.attributes[rows], labels, reduction="none")
        if config.official_parity:
            attribute = (known * entropy).sum() / known.sum().clamp(min=1)
            attribute = attribute * sums.own_attribute / sums.attribute
        else:
            attribute = (known * targets.centerness * entropy).sum() / sums.attribute
        speed = output.speed_mps[rows]
        known = targets.speed_mps.isfinite()
        # Replace unknown speeds rather than multiply them by 0: NaN * 0 is NaN, in the gradient
        # too.
        true = torch.where(known, targets.speed_mps, speed.detach())
        distance = functional.smooth_l1_loss(
            speed, true, beta=config.smooth_l1_beta, reduction="none"
        )
        return {
            "attribute": config.attribute_weight * attribute,
            "speed": config.speed_weight * (targets.centerness * distance).sum() / sums.speed,
        }


@dataclass(frozen=True)
class Normalisers:
    """Divisors of the losses: averages over processes, all positive."""

    positives: Tensor  # () number of positive locations
    centerness: Tensor  # () sum over positive locations
    attribute: Tensor  # () sum of centerness where the attribute is known
    speed: Tensor  # () sum of centerness where the speed is known
    own_attribute: Tensor  # () the sum for ``attribute`` over this process alone


def normalisers(targets: PerspectiveTargets) -> Normalisers:
    """Compute the four sums of a batch, averaged over processes in one reduction."""
    weight = targets.centerness
    sums = torch.stack(
        (
            torch.ones_like(weight).sum(),
            weight.sum(),
            (weight * (targets.attribute != UNKNOWN_ATTRIBUTE)).sum(),
            (weight * targets.speed_mps.isfinite()).sum(),
        )
    )
    own_attribute = sums[2]
    positives, centerness, attribute, speed = mean_over_processes(sums).unbind()
    return Normalisers(
        positives.clamp(min=1),
        centerness.clamp(min=EPS),
        attribute.clamp(min=EPS),
        speed.clamp(min=EPS),
        own_attribute,
    )


def giou_loss(
    predicted: Tensor,  # (M, 4) ltrb, >= 0
    true: Tensor,  # (M, 4) ltrb, > 0
) -> Tensor:  # (M,)
    """Return 1 - GIoU (arXiv 1902.09630) of two boxes around one location.

    As in FCOS, the IoU adds one square pixel to the intersection and to the union; the remaining
    term does not.
    """
    intersection = _area(torch.minimum(predicted, true))
    union = _area(predicted) + _area(true) - intersection
    enclosing = _area(torch.maximum(predicted, true))
    return 1 - (intersection + 1) / (union + 1) + (enclosing - union) / enclosing


@torch.no_grad()
def heading(boxes: CameraBoxes) -> Tensor:  # (M, 2)
    """Return cosine and sine of the angle from a box's ray to its heading, about the camera's y.

    The ray leads from the camera to the centre of the box. No gradient.
    """
    ahead = rotate(boxes.quaternion, boxes.size_m.new_tensor((1.0, 0.0, 0.0)).expand(len(boxes), 3))
    ray = boxes.rays()
    yaw = torch.atan2(ahead[:, 0], ahead[:, 2]) - torch.atan2(ray[:, 0], ray[:, 2])
    return torch.stack((yaw.cos(), yaw.sin()), -1)


@torch.no_grad()
def corner_error(predicted: CameraBoxes, true: CameraBoxes) -> Tensor:  # (M,) metres
    """Return the mean distance of the 24 corner coordinates; no gradient."""
    return (predicted.corners() - true.corners()).abs().mean((-1, -2))


def _area(ltrb: Tensor) -> Tensor:  # (M,)
    left, top, right, bottom = ltrb.unbind(-1)
    return (left + right) * (top + bottom)
