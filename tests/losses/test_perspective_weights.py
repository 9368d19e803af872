"""Weights of the perspective losses in the preset for small images, and headings as yaws."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bevstack.losses.perspective_loss import PerspectiveCriterion
from tests.losses.perspective_naive import naive_losses
from tests.losses.test_perspective_targets import naive_targets
from tests.models.perspective.perspective_cases import (
    SMALL,
    changed,
    some_annotations,
    some_intrinsics,
    some_output,
)
from tests.models.perspective.test_decode import rotation


def test_classes_count_as_much_as_configured() -> None:
    annotations, intrinsics = [some_annotations(n, seed=n) for n in (6, 13)], some_intrinsics(2)
    output = some_output(2, seed=2)
    one, three = (
        PerspectiveCriterion(replace(SMALL, class_weight=w))(output, annotations, intrinsics)
        for w in (1.0, 3.0)
    )
    assert float(three.terms["perspective_class"]) == pytest.approx(
        3 * float(one.terms["perspective_class"])
    )
    remaining = [name for name in one.terms if name != "perspective_class"]
    assert all(one.terms[name] == three.terms[name] for name in remaining)
    rise = 2 * float(one.terms["perspective_class"])
    assert float(three.total - one.total) == pytest.approx(rise, rel=1e-5)


def test_yaws_are_learned_as_cosine_and_sine() -> None:
    annotations, intrinsics = [some_annotations(n, seed=n) for n in (6, 13)], some_intrinsics(2)
    output = some_output(2, seed=2)
    config = changed(SMALL, attitude="yaw", full_weight_depth_m=12.0)
    losses = PerspectiveCriterion(config)(output, annotations, intrinsics)
    total = weights = 0.0
    for image, p, a in naive_targets(annotations):
        true, label = annotations[image], int(annotations[image].labels[a])
        u, v = output.locations_px[p].tolist()
        left, top, right, bottom = true.boxes_px[a].tolist()
        sides = [u - left, v - top, right - u, bottom - v]
        across = min(sides[0], sides[2]) / max(sides[0], sides[2])
        weight = math.sqrt(across * min(sides[1], sides[3]) / max(sides[1], sides[3]))
        ahead = rotation(true.quaternion[a])[:, 0]  # of the object, in the camera's frame
        x, _, z = true.center_m[a].tolist()
        yaw = math.atan2(ahead[0], ahead[2]) - math.atan2(x, z)
        cos, sin = output.quaternion[image, p, :2, label].tolist()
        total += weight * ((cos - math.cos(yaw)) ** 2 + (sin - math.sin(yaw)) ** 2)
        weights += weight
    got = float(losses.terms["perspective_quaternion"])
    assert got == pytest.approx(total / weights, rel=1e-4)
    assert weights > 1
    plain = naive_losses(output, annotations, intrinsics, full_weight_depth_m=12.0)
    assert float(losses.terms["perspective_size"]) == pytest.approx(plain["size"], rel=2e-4)


def test_corners_of_far_boxes_count_less() -> None:
    annotations, intrinsics = [some_annotations(n, seed=n) for n in (6, 13)], some_intrinsics(2)
    output = some_output(2, seed=2)
    config = changed(SMALL, full_weight_depth_m=12.0)
    losses = PerspectiveCriterion(config)(output, annotations, intrinsics)
    wanted = naive_losses(output, annotations, intrinsics, full_weight_depth_m=12.0)
    equal = naive_losses(output, annotations, intrinsics)
    for name, value in wanted.items():
        assert float(losses.terms[f"perspective_{name}"]) == pytest.approx(value, rel=2e-4), name
    assert wanted["depth"] < equal["depth"] and wanted["confidence"] == equal["confidence"]


def test_a_speed_branch_that_predicts_below_0_still_learns() -> None:
    annotations, intrinsics = [some_annotations(n, seed=n) for n in (6, 13)], some_intrinsics(2)
    output = some_output(2, seed=2)
    below = torch.full_like(output.speed_mps, -3.0).requires_grad_()
    losses = PerspectiveCriterion(SMALL)(replace(output, speed_mps=below), annotations, intrinsics)
    losses.total.backward()
    assert below.grad is not None and (below.grad < 0).any() and not (below.grad > 0).any()
