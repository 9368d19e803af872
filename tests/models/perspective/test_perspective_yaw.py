"""Attitudes predicted as a yaw, speeds below 0, and the power of the 3D confidence in a score."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bevstack.models.perspective.decode import (
    RawBoxes,
    decode_boxes,
    detect,
    egocentric_from_yaw,
)
from bevstack.types.perspective import rotate
from tests.models.perspective.perspective_cases import SMALL, changed, some_intrinsics, some_output
from tests.models.perspective.test_decode import rotation, some_raw
from tests.models.perspective.test_head import some_head, some_pyramid


@pytest.mark.parametrize("yaw_deg", [-179.0, -90.0, -20.0, 0.0, 45.0, 90.0, 180.0])
def test_the_heading_of_an_upright_object_is_its_yaw_from_the_ray(yaw_deg: float) -> None:
    rays = torch.tensor(((0.0, 0.0, 1.0), (0.8, -0.3, 1.0), (-1.5, 0.4, 0.5))).double()
    yaw = math.radians(yaw_deg)
    got = egocentric_from_yaw(torch.full((3,), yaw, dtype=torch.float64), rays)
    for ray, quaternion in zip(rays.numpy(), got, strict=True):
        away = np.array((ray[0], 0, ray[2])) / math.hypot(ray[0], ray[2])
        right = np.array((away[2], 0, -away[0]))  # to the right of the ray, with y down
        ahead = math.cos(yaw) * away + math.sin(yaw) * right
        left = math.sin(yaw) * away - math.cos(yaw) * right
        wanted = np.stack((ahead, left, (0, -1, 0)), 1)  # x, y, z of the object as columns
        np.testing.assert_allclose(rotation(quaternion), wanted, atol=1e-12)


def test_yaw_decodes_the_same_boxes_with_an_upright_attitude() -> None:
    config = changed(SMALL, attitude="yaw")
    raw, locations = some_raw(40, seed=3), torch.rand(40, 2) * torch.tensor((72.0, 48.0))
    labels = torch.arange(40) % 4
    inverse = torch.linalg.inv(some_intrinsics(40)).float()
    boxes = decode_boxes(raw, labels, locations, inverse, config)
    same = decode_boxes(raw, labels, locations, inverse, SMALL)
    for name in ("projected_center_px", "depth_m", "size_m"):
        assert torch.equal(getattr(boxes, name), getattr(same, name))
    down = torch.tensor((0.0, 1.0, 0.0)).expand(40, 3)
    up = rotate(boxes.quaternion, torch.tensor((0.0, 0.0, 1.0)).expand(40, 3))
    torch.testing.assert_close(up, -down, rtol=0, atol=1e-6)  # upright for any raw output
    ahead = rotate(boxes.quaternion, torch.tensor((1.0, 0.0, 0.0)).expand(40, 3))
    ray = boxes.rays()
    yaw = torch.atan2(ahead[:, 0], ahead[:, 2]) - torch.atan2(ray[:, 0], ray[:, 2])
    wanted = torch.atan2(raw.quaternion[:, 1], raw.quaternion[:, 0])
    torch.testing.assert_close((yaw - wanted).cos(), torch.ones(40), rtol=0, atol=1e-5)


def test_yaw_has_gradients_all_around() -> None:
    config = changed(SMALL, attitude="yaw")
    angle = torch.linspace(-math.pi, math.pi, 13)
    code = torch.stack((angle.cos(), angle.sin(), angle * 0, angle * 0), -1)
    code = torch.cat((code, torch.zeros(1, 4))).requires_grad_()  # and a code of length 0
    raw = RawBoxes(code, torch.zeros(14, 2), torch.full((14,), 9.0), torch.zeros(14, 3))
    locations, labels = torch.full((14, 2), 20.0), torch.zeros(14, dtype=torch.int64)
    inverse = torch.linalg.inv(some_intrinsics(14)).float()
    boxes = decode_boxes(raw, labels, locations, inverse, config)
    (boxes.corners() * torch.rand(14, 8, 3)).sum().backward()
    assert code.grad.isfinite().all()
    assert (code.grad[:13, :2].abs().sum(1) > 0).all() and not code.grad[13].any()


def test_confidence_counts_in_the_score_by_its_power() -> None:
    output = some_output(2, seed=5)
    intrinsics = some_intrinsics(2)
    whole, half, none = (
        detect(output, intrinsics, replace(changed(SMALL, confidence_power=p), nms_iou=1.0))
        for p in (1.0, 0.5, 0.0)
    )
    valid = none.valid
    torch.testing.assert_close(none.scores[valid], none.image_scores[valid])
    assert valid.any() and whole.valid.sum() == half.valid.sum() == valid.sum()
    assert (whole.scores.sum() < half.scores.sum()) and (half.scores.sum() < none.scores.sum())


@torch.no_grad()
def test_linear_speeds_may_be_negative_and_are_detected_as_0() -> None:
    heads = [some_head(changed(SMALL, speed_activation=a)) for a in ("relu", "linear")]
    pyramid = some_pyramid(2)
    relu, linear = (head(pyramid).speed_mps for head in heads)
    assert (linear < 0).any() and torch.equal(linear.clamp(min=0), relu)
    output = some_output(2, seed=5)
    below = replace(output, speed_mps=output.speed_mps - 2)
    detections = detect(below, some_intrinsics(2), SMALL)
    assert (detections.speed_mps == 0).any() and (detections.speed_mps > 0).any()
    assert not (detections.speed_mps < 0).any()
