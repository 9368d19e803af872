"""mmcv's compiled operators run beside ours."""

from __future__ import annotations

import sys

import pytest
import torch

pytest.importorskip("mmdet3d", reason="needs mmdetection3d: make test-mmdet3d")

from mmdet3d.structures import LiDARInstance3DBoxes

from bevstack.geometry import bev_iou
from bevstack.interop.mmdet3d_samples import boxes_to_lidar
from tests.models.small_models import make_annotations

HAS_OPERATORS = getattr(sys.modules.get("mmcv._ext"), "__file__", None) is not None


@pytest.mark.skipif(not HAS_OPERATORS, reason="mmcv has no compiled operators: make test-mmdet3d")
def test_overlaps_of_boxes_equal_ours() -> None:
    boxes = make_annotations(30, 3, spread_m=6.0).boxes
    rows = boxes_to_lidar(boxes)
    rows[:, 2], rows[:, 5] = 0.0, 1.0  # of one height, so that volumes overlap as areas do
    theirs = LiDARInstance3DBoxes(rows, box_dim=9)
    found = LiDARInstance3DBoxes.overlaps(theirs, theirs)
    footprint = torch.cat((boxes.center[:, :2], boxes.size[:, :2], boxes.yaw[:, None]), 1)
    wanted = bev_iou(footprint.double()[:, None], footprint.double())
    assert float(wanted.fill_diagonal_(0).max()) > 0.1
    torch.testing.assert_close(found.fill_diagonal_(0).double(), wanted, rtol=0, atol=1e-4)
