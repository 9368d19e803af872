from __future__ import annotations

import math
from dataclasses import replace

import torch

from bevstack.geometry import BEVGrid
from bevstack.losses.targets import encode_targets
from bevstack.models.detection3d.box_code import encode
from bevstack.types import Annotations, Boxes3D
from tests.models.small_models import make_annotations

GRID = BEVGrid(x_range_m=(-10, 20), y_range_m=(-6, 6))


def test_targets_are_padded_codes_with_their_counts() -> None:
    annotations = [make_annotations(n, 4, seed=n) for n in (3, 0, 5)]
    targets = encode_targets(annotations, BEVGrid(), "cpu")
    assert targets.counts.tolist() == [3, 0, 5]
    assert targets.codes.shape == (3, 5, 10) and targets.labels.shape == (3, 5)
    boxes = annotations[2].boxes
    for row in range(5):
        length, width, height = boxes.size[row].tolist()
        code = targets.codes[2, row].tolist()
        assert math.isclose(code[2], math.log(length), rel_tol=1e-5, abs_tol=1e-6)
        assert math.isclose(code[3], math.log(width), rel_tol=1e-5, abs_tol=1e-6)
        assert math.isclose(code[5], math.log(height), rel_tol=1e-5, abs_tol=1e-6)
        assert math.isclose(code[6], math.sin(boxes.yaw[row]), abs_tol=1e-6)
        assert math.isclose(code[7], math.cos(boxes.yaw[row]), abs_tol=1e-6)
    assert torch.equal(targets.labels[0, :3], annotations[0].labels)


def test_boxes_outside_the_grid_or_without_a_point_do_not_train() -> None:
    annotations = make_annotations(5, 4)
    center = torch.tensor(((0.0, 0, 0), (20.0, 0, 0), (19.9, 5.9, 40), (0, -6.1, 0), (-3.0, 2, 1)))
    points = torch.tensor((1, 9, 2, 9, 0))
    moved = replace(annotations, boxes=replace(annotations.boxes, center=center))
    targets = encode_targets([replace(moved, num_points=points)], GRID, "cpu")
    assert targets.counts.tolist() == [2]
    assert torch.equal(targets.labels[0], annotations.labels[[0, 2, 1, 3, 4]])  # trained ones first
    assert torch.equal(targets.codes[0], encode(moved.boxes)[[0, 2, 1, 3, 4]])


def test_no_box_anywhere_gives_empty_targets() -> None:
    targets = encode_targets([Annotations.empty(), Annotations.empty()], GRID, "cpu")
    assert targets.counts.tolist() == [0, 0] and targets.codes.shape == (2, 0, 10)


def test_float64_boxes_are_taken() -> None:
    one = make_annotations(1, 2)
    double = Boxes3D(
        *(getattr(one.boxes, f).double() for f in ("center", "size", "yaw", "velocity"))
    )
    assert encode_targets([replace(one, boxes=double)], GRID, "cpu").codes.dtype == torch.float32
