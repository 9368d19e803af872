"""The ten losses of the perspective head (DD3D, arXiv 2108.06417; v2 specification, section 11).

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
EPS = 1e-6  # the least sum of weights to divide by


class PerspectiveCriterion:
    """What the perspective head is trained with, in all camera images that take part.

    Over all locations: focal classification. At positive locations, weighted by centerness: GIoU of
    the image box; the four disentangled corner losses of the 3D box, in which one of attitude,
    projected centre, depth and size is the predicted one and the others are true (arXiv 1905.12365,
    section 4.2); the 3D confidence, trained to exp(-mean corner error in metres); attribute; speed.
    Unweighted: centerness itself. Each is divided by its sum of weights, the classes and centerness
    by the number of positives, averaged over processes. Computed in float32 at least.

    With ``config.attitude`` "yaw" the disentangled loss of the attitude gives way to the squared
    distance of cosine and sine from the true ones, unweighted by the distance of the box. Corners
    move least where a heading is opposite, and hardly at all of what is small: from them headings
    are learned last.

    Without any positive location the class loss is that of background alone, and every other loss
    is 0 times the prediction, so that all parameters stay in the graph.

    ``config.official_parity`` gives what the released code computes:

    - the smooth-L1 of corners is x^2 / 2 below beta, instead of x^2 / (2 beta), which meets
      |x| - beta / 2 at beta;
    - a box adds to a disentangled loss without bound, instead of ``max_corner_loss_m`` at most (the
      released clamp's result is thrown away);
    - the attribute loss is the plain mean of the cross-entropies, instead of the mean weighted by
      centerness, like every other loss;
    - an image whose first box has its middle at u = 0 has no positive location.

    Args:
        config: the perspective section of the configuration.
    """

    def __init__(self, config: PerspectiveConfig) -> None:
        self.config = config

    def __call__(
        self,
        output: PerspectiveOutput,
        annotations: Sequence[CameraAnnotations],  # I
        intrinsics: Tensor,  # (I, 3, 3) float64 pixels, of the images as the network saw them
    ) -> Losses:
        """Losses of a batch of images; the total is their plain sum (BEVFormer v2's weight is 1).

        Terms are named "perspective_class", "_box2d", "_centerness", "_quaternion",
        "_projected_center", "_depth", "_size", "_confidence", "_attribute", "_speed".

        Raises:
            ValueError: not one entry of annotations and intrinsics an image, labels or attributes
                out of range, or a true box that is not in front of its camera.
        """
        if len(annotations) != output.logits.shape[0]:
            raise ValueError(
                f"annotations must be one an image ({output.logits.shape[0]}); "
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
        return Losses(torch.stack(tuple(terms.values())).sum(), named)

    def _image_losses(
        self, output: PerspectiveOutput, targets: PerspectiveTargets, sums: Normalisers
    ) -> dict[str, Tensor]:
        config = self.config
        wanted = functional.one_hot(targets.labels, config.num_classes + 1)[..., :-1]
        logits = output.logits
        by_class = sigmoid_focal_loss(
            logits, wanted.to(logits.dtype), alpha=config.focal_alpha, gamma=config.focal_gamma
        )
        at = (targets.image, targets.location)
        giou = giou_loss(output.ltrb_px[at], targets.ltrb_px)
        central = functional.binary_cross_entropy_with_logits(
            output.centerness[at], targets.centerness.to(logits.dtype), reduction="sum"
        )
        return {
            "class": config.class_weight * by_class.sum() / sums.positives,
            "box2d": (targets.centerness * giou).sum() / sums.centerness,
            "centerness": central / sums.positives,
        }

    def _box_losses(
        self, output: PerspectiveOutput, targets: PerspectiveTargets, sums: Normalisers
    ) -> dict[str, Tensor]:
        at = (targets.image, targets.location)
        raw = raw_boxes_at(output, *at, targets.label)
        boxes = decode_boxes(
            raw,
            targets.label,
            output.locations_px[targets.location],
            targets.boxes.cam_from_image,
            self.config,
        )
        losses = {}
        for name, by_box in self.disentangled(boxes, targets.boxes).items():
            weighted = (targets.centerness * by_box).sum() / sums.centerness
            losses[name] = self.config.box3d_weight * weighted
        if self.config.changes.attitude == YAW:
            by_box = (raw.quaternion[:, :2] - heading(targets.boxes)).square().sum(-1)
            losses["quaternion"] = (targets.centerness * by_box).sum() / sums.centerness
        confidence = functional.binary_cross_entropy_with_logits(
            output.confidence[(*at, targets.label)],
            (-corner_error(boxes, targets.boxes)).exp().to(output.confidence.dtype),
            reduction="none",
        )
        losses["confidence"] = (targets.centerness * confidence).sum() / sums.centerness
        return losses

    def disentangled(
        self, predicted: CameraBoxes, true: CameraBoxes
    ) -> dict[str, Tensor]:  # 4 x (M,)
        """Loss of each part of the box, by row: smooth-L1 of 24 corner coordinates, averaged."""
        wanted = true.corners()
        beta = self.config.smooth_l1_beta
        losses = {}
        for name, field in zip(BOX_PARTS, _FIELDS, strict=True):
            mixed = replace(true, **{field: getattr(predicted, field)})
            distance = (mixed.corners() - wanted).abs().flatten(-2)  # (M, 24)
            near = 0.5 * distance.square()
            near = near if self.config.official_parity else near / beta
            loss = torch.where(distance < beta, near, distance - 0.5 * beta).mean(-1)
            if not self.config.official_parity:
                loss = loss.clamp(max=self.config.max_corner_loss_m)
            losses[name] = loss * self._nearness(true)
        return losses

    def _nearness(self, true: CameraBoxes) -> Tensor | float:  # (M,)
        """How much the corners of a box count, by its depth."""
        full = self.config.changes.full_weight_depth_m
        return 1.0 if full is None else (full / true.depth_m).clamp(max=1.0)

    def _motion_losses(
        self, output: PerspectiveOutput, targets: PerspectiveTargets, sums: Normalisers
    ) -> dict[str, Tensor]:
        config = self.config
        at = (targets.image, targets.location)
        known = targets.attribute != UNKNOWN_ATTRIBUTE
        wanted = targets.attribute.clamp(min=0)
        entropy = functional.cross_entropy(output.attributes[at], wanted, reduction="none")
        if config.official_parity:
            attribute = (known * entropy).sum() / known.sum().clamp(min=1)
            attribute = attribute * sums.own_attribute / sums.attribute
        else:
            attribute = (known * targets.centerness * entropy).sum() / sums.attribute
        speed = output.speed_mps[at]
        known = targets.speed_mps.isfinite()
        # The unknown is replaced, not multiplied by 0: NaN * 0 is NaN, in the gradient too.
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
    """What losses are divided by: averages over processes, none of them 0."""

    positives: Tensor  # () number of positive locations
    centerness: Tensor  # () sum over positive locations
    attribute: Tensor  # () sum of centerness where the attribute is known
    speed: Tensor  # () sum of centerness where the speed is known
    own_attribute: Tensor  # () this process's part of ``attribute``


def normalisers(targets: PerspectiveTargets) -> Normalisers:
    """The four sums of a batch, averaged over processes in one reduction."""
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
    """1 - GIoU (arXiv 1902.09630) of two boxes around one location.

    Intersection and union each have one square pixel added in the IoU, and only there, as in FCOS.
    """
    shared = _area(torch.minimum(predicted, true))
    union = _area(predicted) + _area(true) - shared
    around = _area(torch.maximum(predicted, true))
    return 1 - (shared + 1) / (union + 1) + (around - union) / around


@torch.no_grad()
def heading(boxes: CameraBoxes) -> Tensor:  # (M, 2)
    """Cosine and sine of the angle about the camera's y axis from the ray to where boxes point."""
    ahead = rotate(boxes.quaternion, boxes.size_m.new_tensor((1.0, 0.0, 0.0)).expand(len(boxes), 3))
    ray = boxes.rays()
    yaw = torch.atan2(ahead[:, 0], ahead[:, 2]) - torch.atan2(ray[:, 0], ray[:, 2])
    return torch.stack((yaw.cos(), yaw.sin()), -1)


@torch.no_grad()
def corner_error(predicted: CameraBoxes, true: CameraBoxes) -> Tensor:  # (M,) metres
    """Mean distance of the 24 corner coordinates; no gradient."""
    return (predicted.corners() - true.corners()).abs().mean((-1, -2))


def _area(ltrb: Tensor) -> Tensor:  # (M,)
    left, top, right, bottom = ltrb.unbind(-1)
    return (left + right) * (top + bottom)
