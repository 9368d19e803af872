"""Stored cases of matching and losses, converted to the conventions of this project."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from bevstack.config import LossConfig
from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.box_code import DecoderOutput
from bevstack.types import Annotations, Boxes3D
from tests.models.bevformer_oracle import Case, legacy_codes, read_case

# The published loss sees annotations that were filtered before.
EVERYWHERE = BEVGrid(x_range_m=(-1e4, 1e4), y_range_m=(-1e4, 1e4))


@dataclass(frozen=True)
class PublishedLosses:
    case: Case
    output: DecoderOutput  # its logits and codes are leaves that take gradients
    annotations: list[Annotations]
    config: LossConfig


def read_losses(name: str) -> PublishedLosses:
    case = read_case(name)
    logits = case.inputs["all_cls_scores"].requires_grad_()
    codes = legacy_codes(case.inputs["all_bbox_preds"]).requires_grad_()
    annotations = []
    for b in range(logits.shape[1]):
        boxes = case.inputs[f"gt_boxes_bottom.{b}"]  # (x, y, bottom z, w, l, h, yaw', vx, vy)
        center = boxes[:, :3] + torch.nn.functional.pad(boxes[:, 5:6] / 2, (2, 0))
        torch.testing.assert_close(center, case.outputs[f"gt_gravity.{b}"][:, :3])
        ours = Boxes3D(center, boxes[:, (4, 3, 5)], -boxes[:, 6] - math.pi / 2, boxes[:, 7:9])
        labels = case.inputs[f"gt_labels.{b}"]
        annotations.append(Annotations(ours, labels, torch.ones_like(labels)))
    config = LossConfig(code_weights=tuple(case.cfg["code_weights"]))
    return PublishedLosses(case, DecoderOutput(logits, codes), annotations, config)
