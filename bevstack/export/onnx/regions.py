"""Mask R-CNN and Cascade Mask R-CNN with fixed shapes, for export.

The numbers of candidates, regions and detections of a picture vary. Here each list has its greatest
length, with a flag for each row. Greedy suppression is decided for all rows at once, given the rows
that the previous round kept: after n rounds the first n decisions are the greedy ones. The output
``complete`` is True if the numbers of rounds and of candidates were enough, so that the objects are
those of the detector.

Letters: L levels, N candidates of a level, R regions, K classes, M candidates for a detection,
D detections, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.datasets.detection2d.prepare import padded_side
from bevstack.export.onnx.picture_input import normalised_pictures
from bevstack.models.detection2d.boxes import BoxCoder
from bevstack.models.detection2d.model import RegionDetector, RegionStage
from bevstack.models.detection2d.regions import FINEST_PX, STRIDES
from bevstack.models.detection2d.rpn import RPNOutput, flat
from bevstack.models.layers.nms import image_iou
from bevstack.ops import roi_align

ROUNDS = 32  # of suppression
MAX_CANDIDATES = 1000  # pairs of region and class that suppression sees, the best ones
OUTPUTS: tuple[str, ...] = ("boxes", "scores", "labels", "masks", "complete")


class FixedDetections(NamedTuple):
    """Objects of one picture, best first; rows without an object are at the end."""

    boxes: Tensor  # (D, 4) left, top, right, bottom in pixels; 0 without an object
    scores: Tensor  # (D,) 0 to 1; 0 without an object
    labels: Tensor  # (D,) int64; -1 without an object
    masks: Tensor  # (D, cells, cells) 0 to 1 within the box
    complete: Tensor  # () bool


class RegionDetectorGraph(nn.Module):
    """Detection in one picture of a fixed size, from its pixels on.

    Args:
        model: the detector, in evaluation mode.
        size: height and width of the pictures in pixels, at the network's input: they are not
            resized, only padded.
    """

    def __init__(self, model: RegionDetector, size: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        self.size = size
        multiple = model.config.pictures.pad_to
        height, width = (padded_side(side, multiple) for side in size)
        self.padding = (0, width - size[1], 0, height - size[0])

    def forward(
        self,
        images: Tensor,  # (1, H, W, 3) uint8 RGB
    ) -> FixedDetections:
        """Return the objects of the picture."""
        model = self.model
        pixels = functional.pad(normalised_pictures(images), self.padding)
        pyramid = model.neck(model.backbone(pixels))
        output = model.rpn(pyramid)
        regions, valid, settled = self.propose(output)
        outputs = []
        stages = [stage for stage in model.stages if isinstance(stage, RegionStage)]
        for stage, following in pairwise((*stages, None)):
            assert stage is not None
            features = region_features(pyramid, regions, stage.config.box_cells)
            outputs.append(stage.box_head(features))
            if following is not None:
                labels = outputs[-1].logits[:, :-1].argmax(1)
                regions = stage.refine(regions, outputs[-1].codes, labels, self.size)
        scores = torch.stack([made.logits for made in outputs]).mean(0).softmax(-1)
        boxes = stages[-1].coder.decode(regions, outputs[-1].codes, self.size)
        boxes = torch.unflatten(boxes, -1, (-1, 4))  # (R, K, 4)
        boxes, best, labels, enough = self.select(boxes, scores, valid)
        rows = torch.arange(len(labels), device=labels.device)
        cells = model.config.roi.mask_cells
        masks = torch.stack(
            [
                stage.mask_head(region_features(pyramid, boxes, cells))[rows, labels].sigmoid()
                for stage in stages
            ]
        ).mean(0)
        found = best > 0
        return FixedDetections(
            torch.where(found[:, None], boxes, 0.0),
            torch.where(found, best, 0.0),
            torch.where(found, labels, -1),
            torch.where(found[:, None, None], masks, 0.0),
            settled & enough,
        )

    def propose(
        self, output: RPNOutput
    ) -> tuple[Tensor, Tensor, Tensor]:  # (R, 4), (R,) bool, () bool
        """Return the regions, True for those that exist, and True if suppression was complete."""
        rpn = self.model.rpn
        config = rpn.config
        logits, codes = flat(output)
        levels = [
            _best_of_level(
                values[0].sigmoid(),
                code[0],
                anchors,
                size=self.size,
                count=config.candidates,
                coder=rpn.coder,
            )
            for values, code, anchors in zip(logits, codes, rpn.anchors(output), strict=True)
        ]
        longest = max(len(scores) for scores, _ in levels)
        scores = torch.stack(
            [functional.pad(s, (0, longest - len(s)), value=-1) for s, _ in levels]
        )
        boxes = torch.stack([functional.pad(b, (0, 0, 0, longest - len(b))) for _, b in levels])
        valid = (scores >= 0) & (boxes[..., 2:] > boxes[..., :2]).all(-1)  # (L, N)
        groups = torch.arange(len(levels), device=scores.device)[:, None]
        kept, settled = suppress_fixed(boxes, groups.expand_as(scores), valid, config.nms_iou)
        count = min(config.proposals, scores.numel())
        best, index = torch.where(kept, scores, -1.0).flatten().topk(count)
        return boxes.flatten(0, 1)[index], best >= 0, settled

    def select(
        self,
        boxes: Tensor,  # (R, K, 4)
        scores: Tensor,  # (R, K + 1)
        valid: Tensor,  # (R,) bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # (D, 4), (D,), (D,) int64, () bool
        """Return the best boxes after suppression within each class; the score of no box is -1."""
        config, classes = self.model.config.roi, boxes.shape[1]
        scores = scores[:, :classes]
        candidates = (scores > config.score_threshold) & valid[:, None]
        count = min(MAX_CANDIDATES, candidates.numel())
        best, index = torch.where(candidates, scores, -1.0).flatten().topk(count)
        labels, chosen = index % classes, boxes.flatten(0, 1)[index]
        largest = torch.where(candidates[..., None], boxes, 0.0).max()
        kept, settled = suppress_fixed(
            chosen[None], labels[None], (best > 0)[None], config.nms_iou, largest=largest
        )
        detections = min(config.detections, count)
        last, rows = torch.where(kept[0], best, -1.0).topk(detections)
        all_seen = (candidates.sum() <= count) | (kept.sum() >= detections)
        return chosen[rows], last, labels[rows], settled & all_seen


def _best_of_level(
    scores: Tensor,  # (A,) of all anchors
    codes: Tensor,  # (A, 4)
    anchors: Tensor,  # (A, 4)
    *,
    size: tuple[int, int],
    count: int,
    coder: BoxCoder,
) -> tuple[Tensor, Tensor]:  # (N,), (N, 4)
    best, index = scores.topk(min(count, len(scores)))
    return best, coder.decode(anchors[index], codes[index], size)


def suppress_fixed(
    boxes: Tensor,  # (G, N, 4) best first
    labels: Tensor,  # (G, N) int64; boxes of different labels do not suppress each other
    valid: Tensor,  # (G, N) bool
    iou: float,
    *,
    largest: Tensor | None = None,  # () largest coordinate; None: that of the valid boxes
) -> tuple[Tensor, Tensor]:  # (G, N) bool, () bool
    """Return True for boxes that remain, and True if more rounds would change nothing.

    Boxes are first shifted as in ``layers.nms.suppress_within``: overlaps are rounded alike.
    """
    if largest is None:
        largest = torch.where(valid[..., None], boxes, 0.0).max()
    shifted = boxes + (labels.to(boxes.dtype) * (largest + 1))[..., None]
    over = image_iou(shifted[:, :, None], shifted[:, None]) > iou  # (G, N, N)
    rank = torch.arange(boxes.shape[1], device=boxes.device)
    over = over & (rank[:, None] < rank) & (labels[:, :, None] == labels[:, None])
    suppresses = (over & valid[:, :, None]).to(boxes.dtype)
    kept = previous = torch.ones_like(suppresses[:, :1])  # (G, 1, N)
    for _ in range(ROUNDS):
        previous, kept = kept, (torch.bmm(kept, suppresses) < 0.5).to(boxes.dtype)
    settled = (kept == previous).all()
    return (kept[:, 0] > 0.5) & valid, settled


def region_features(
    pyramid: Sequence[Tensor],  # L + 1 x (1, C, H_l, W_l)
    boxes: Tensor,  # (R, 4)
    cells: int,
) -> Tensor:  # (R, C, cells, cells)
    """Return the features of every region, each from the level that fits its size.

    Every level computes all regions; those of other levels are as small as one cell there.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    extended = (sides > 0).all(-1)  # without extent: zeros, unlike OpenVINO's operator
    ratio = sides.prod(-1).sqrt() / FINEST_PX + 1e-6
    levels = sum((ratio >= 2**step).long() for step in range(1, len(STRIDES)))
    image = torch.zeros_like(boxes[:, :1])
    output: Tensor | None = None
    for level, stride in enumerate(STRIDES):
        own = (levels == level) & extended
        cell = torch.tensor([0.0, 0.0, stride, stride], device=boxes.device)
        rois = torch.cat((image, torch.where(own[:, None], boxes, cell)), 1)
        made = roi_align(pyramid[level], rois, (cells, cells), spatial_scale=1 / stride)
        rest = torch.zeros_like(made) if output is None else output
        output = torch.where(own[:, None, None, None], made, rest)
    assert output is not None
    return output
