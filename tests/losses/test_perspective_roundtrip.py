"""Round trip of true boxes: a head that predicts them has no box loss, and decodes to them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bevstack.losses.perspective_loss import PerspectiveCriterion
from bevstack.losses.perspective_targets import PerspectiveTargets, assign_targets
from bevstack.models.perspective.decode import detect
from bevstack.models.perspective.head import PerspectiveOutput
from bevstack.types.perspective import CameraAnnotations
from tests.losses.test_perspective_targets import LOCATIONS, SIZES
from tests.models.bevformer_oracle import assert_close
from tests.models.perspective.perspective_cases import (
    SMALL,
    some_annotations,
    some_intrinsics,
    some_output,
)
from tests.models.perspective.test_decode import assert_same_attitude


def allocentric(quaternion: Tensor, ray: Tensor) -> Tensor:
    """Return an attitude in the camera's frame relative to a ray (allocentric)."""
    z = ray / ray.norm()
    y = torch.tensor((0.0, 1, 0)) - z[1] * z
    y = y / y.norm()
    m = torch.stack((torch.linalg.cross(y, z), y, z), 1)
    real = (1 + m.trace()).sqrt() / 2  # of a rotation by less than half a turn
    axis = torch.stack((m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1])) / (4 * real)
    return hamilton(torch.cat((real[None], -axis)), quaternion)


def hamilton(a: Tensor, b: Tensor) -> Tensor:
    w = a[0] * b[0] - a[1:] @ b[1:]
    return torch.cat((w[None], a[0] * b[1:] + b[0] * a[1:] + torch.linalg.cross(a[1:], b[1:])))


def truth(targets: PerspectiveTargets, images: int) -> PerspectiveOutput:
    """Return the output of a perfect head: true boxes at positive locations, else background."""
    output = some_output(images)
    output.logits.fill_(-9.0)
    inverse = targets.boxes.cam_from_image
    scale = 500 * torch.hypot(inverse[:, 0, 0], inverse[:, 1, 1])
    for m, (image, p, k) in enumerate(
        zip(targets.image, targets.location, targets.label, strict=True)
    ):
        box = targets.boxes[m]
        canonical = torch.tensor(SMALL.canonical_size_m[int(k)])
        output.logits[image, p, k] = 9.0
        output.ltrb_px[image, p] = targets.ltrb_px[m]
        output.centerness[image, p] = targets.centerness[m].logit()
        output.quaternion[image, p, :, k] = 3 * allocentric(box.quaternion, box.rays())
        output.center_offset_px[image, p, :, k] = box.projected_center_px - LOCATIONS[p]
        output.depth[image, p, k] = box.depth_m * scale[m]
        output.size[image, p, :, k] = (box.size_m / canonical - 1).atanh()
        output.confidence[image, p, k] = 9.0
        output.attributes[image, p] = -9.0
        output.attributes[image, p, targets.attribute[m].clamp(min=0)] = 9.0
        output.speed_mps[image, p] = targets.speed_mps[m].nan_to_num()
    return output


def some_truth() -> tuple[list[CameraAnnotations], Tensor]:
    annotations = []
    for count in (4, 0, 3):
        true = some_annotations(count, seed=count)
        canonical = torch.tensor(SMALL.canonical_size_m)[true.labels]
        annotations.append(replace(true, size_m=canonical * torch.tensor((0.8, 1.3, 1.1))))
    return annotations, some_intrinsics(3)


def test_truth_costs_next_to_nothing() -> None:
    annotations, intrinsics = some_truth()
    targets = assign_targets(annotations, intrinsics, LOCATIONS, SIZES, SMALL)
    assert len(targets.image) > 10
    losses = PerspectiveCriterion(SMALL)(truth(targets, 3), annotations, intrinsics)
    terms = {name.removeprefix("perspective_"): float(v) for name, v in losses.terms.items()}
    for name in ("quaternion", "projected_center", "depth", "size", "box2d", "speed"):
        assert terms[name] < 1e-5, name  # float32 metres and pixels, squared
    assert terms["class"] < 1e-3 and terms["confidence"] < 1e-3 and terms["attribute"] < 1e-5


def test_true_boxes_come_back() -> None:
    annotations, intrinsics = some_truth()
    targets = assign_targets(annotations, intrinsics, LOCATIONS, SIZES, SMALL)
    # the threshold keeps central locations; all locations of one object predict the same box
    detections = detect(truth(targets, 3), intrinsics, SMALL)
    assert not detections.valid[1].any()
    for image, true in enumerate(annotations):
        in_image = targets.image == image
        strong = in_image & (targets.centerness > 0.06)
        wanted = set(targets.annotation[strong].tolist())
        count = int(detections.valid[image].sum())
        matched = set()
        for d in range(count):
            distance = (detections.boxes_px[image, d] - true.boxes_px).abs().amax(-1)
            a = int(distance.argmin())
            matched.add(a)
            box = detections.boxes[image][d]
            assert float(distance[a]) < 1e-3
            assert int(detections.labels[image, d]) == int(true.labels[a])
            assert_close(box.centers(), true.center_m[a], 1e-4)
            assert_close(box.size_m, true.size_m[a], 1e-4)
            assert_same_attitude(box.quaternion, true.quaternion[a], 1e-4)
        assert matched == wanted
        assert count == len(wanted)  # one per object: NMS suppresses the other locations' boxes
