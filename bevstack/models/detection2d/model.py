"""Mask R-CNN (arXiv 1703.06870) and Cascade Mask R-CNN (arXiv 1906.09756) on InternImage.

Both are one model: regions are proposed, then classified, moved and segmented, in one stage or in
several that each start from the previous stage's boxes. Letters: B batch, L levels, R regions,
K classes, P positive samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bevstack.config.detection2d import Detection2DConfig, RoIConfig
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.detection2d.boxes import BoxCoder
from bevstack.models.detection2d.heads import BoxHead, BoxOutput, MaskHead
from bevstack.models.detection2d.pyramid import DetectionPyramid
from bevstack.models.detection2d.regions import join_regions, region_features
from bevstack.models.detection2d.rpn import Proposals, RegionProposals, RPNOutput
from bevstack.models.detection2d.sampling import (
    Choice,
    Samples,
    choose_at_random,
    match_boxes,
    sample_boxes,
)
from bevstack.models.layers.nms import suppress_within
from bevstack.types.pictures2d import Detections2D, PictureBatch, PictureObjects, PictureSize


class StageOutput(NamedTuple):
    """Predictions of one stage for the sampled regions: positive, then negative, by image."""

    samples: tuple[Samples, ...]  # B
    boxes: tuple[Tensor, ...]  # B x (R_b, 4) sampled regions
    box: BoxOutput  # of R regions
    masks: Tensor  # (P, K, cells, cells) logits of the positive regions


class TrainingOutput(NamedTuple):
    """Predictions that the losses compare with the objects of a batch."""

    rpn: RPNOutput
    anchors: tuple[Tensor, ...]  # L x (N_l, 4)
    stages: tuple[StageOutput, ...]


class RegionStage(nn.Module):
    """Heads of one stage."""

    def __init__(self, config: RoIConfig, stage: int, *, channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.coder = BoxCoder(config.stds[stage])
        self.iou = config.ious[stage]
        self.box_head = BoxHead(config, channels=channels, num_classes=num_classes)
        self.mask_head = MaskHead(config, channels=channels, num_classes=num_classes)

    def boxes(self, pyramid: Sequence[Tensor], rois: Tensor) -> BoxOutput:
        """Predict class and box of each region, (R, 5)."""
        output: BoxOutput = self.box_head(region_features(pyramid, rois, self.config.box_cells))
        return output

    def masks(self, pyramid: Sequence[Tensor], rois: Tensor) -> Tensor:  # (R, K, cells, cells)
        """Predict the mask of each class in each region, (R, 5), as logits."""
        masks: Tensor = self.mask_head(region_features(pyramid, rois, self.config.mask_cells))
        return masks

    @torch.no_grad()
    def refine(
        self,
        boxes: Tensor,  # (R, 4) of one image
        codes: Tensor,  # (R, 4 K)
        labels: Tensor,  # (R,) class whose box is taken
        image_size: tuple[int, int],
    ) -> Tensor:  # (R, 4)
        """Return the regions after this stage's correction."""
        index = labels[:, None, None].expand(-1, 1, 4)
        code = torch.unflatten(codes, -1, (-1, 4)).gather(1, index)[:, 0]
        return self.coder.decode(boxes, code, image_size)


class RegionDetector(nn.Module):
    """Detector of boxes and masks in single pictures.

    Args:
        config: the detector.
        backbone: a backbone to share, of the configuration's section; None builds one.
    """

    def __init__(self, config: Detection2DConfig, backbone: InternImage | None = None) -> None:
        super().__init__()
        self.config = config
        self.num_classes = len(config.class_names)
        channels = config.channels
        self.backbone = InternImage(config.backbone) if backbone is None else backbone
        self.neck = DetectionPyramid(self.backbone.out_channels, channels=channels)
        self.rpn = RegionProposals(config.rpn, channels=channels)
        self.stages = nn.ModuleList(
            RegionStage(config.roi, stage, channels=channels, num_classes=self.num_classes)
            for stage in range(len(config.roi.stds))
        )

    def forward(
        self,
        batch: PictureBatch,  # with objects
        maps: Sequence[Tensor] | None = None,  # of the backbone; None: computed
        *,
        choose: Choice = choose_at_random,
    ) -> TrainingOutput:
        """Predict what the losses need: all anchors, and sampled regions of each stage."""
        pyramid = self.neck(self.backbone(batch.images) if maps is None else maps)
        rpn = self.rpn(pyramid)
        sizes = [size.resized for size in batch.sizes]
        proposals = self.rpn.propose(rpn, sizes, training=True)
        stages = self.sampled_stages(pyramid, proposals, batch, choose=choose)
        return TrainingOutput(rpn, tuple(self.rpn.anchors(rpn)), stages)

    def sampled_stages(
        self,
        pyramid: Sequence[Tensor],  # L + 1 x (B, C, H_l, W_l)
        proposals: Sequence[Proposals],  # B
        batch: PictureBatch,
        *,
        choose: Choice = choose_at_random,
    ) -> tuple[StageOutput, ...]:
        """Sample regions and predict on them, stage by stage."""
        regions = [proposal.boxes for proposal in proposals]
        generators = [torch.Generator().manual_seed(seed) for seed in batch.seeds]
        outputs: list[StageOutput] = []
        for stage in self.stages:
            assert isinstance(stage, RegionStage)
            pairs = zip(regions, batch.objects, generators, strict=True)
            sampled = [_sample(stage, boxes, objects, g, choose) for boxes, objects, g in pairs]
            output = _predict(stage, pyramid, sampled)
            outputs.append(output)
            if stage is not self.stages[-1]:
                regions = _refined(stage, output, batch, self.num_classes)
        return tuple(outputs)

    @torch.no_grad()
    def detect(self, batch: PictureBatch) -> list[Detections2D]:
        """Return the objects of each picture, in its own pixels."""
        pyramid = self.neck(self.backbone(batch.images))
        proposals = self.rpn.propose(self.rpn(pyramid), [size.resized for size in batch.sizes])
        return [
            self.detect_in_regions([level[image : image + 1] for level in pyramid], regions, size)
            for image, (regions, size) in enumerate(
                zip((p.boxes for p in proposals), batch.sizes, strict=True)
            )
        ]

    @torch.no_grad()
    def detect_in_regions(
        self,
        pyramid: Sequence[Tensor],  # L + 1 x (1, C, H_l, W_l)
        regions: Tensor,  # (R, 4)
        size: PictureSize,
    ) -> Detections2D:
        """Return the objects of one picture, of given regions.

        The stages' logits are averaged; the boxes are those of the last stage.
        """
        stages = [stage for stage in self.stages if isinstance(stage, RegionStage)]
        outputs = [stages[0].boxes(pyramid, join_regions([regions]))]
        for previous, stage in pairwise(stages):
            labels = outputs[-1].logits[:, :-1].argmax(1)
            regions = previous.refine(regions, outputs[-1].codes, labels, size.resized)
            outputs.append(stage.boxes(pyramid, join_regions([regions])))
        scores = torch.stack([output.logits for output in outputs]).mean(0).softmax(-1)
        scale = size.scale(scores.device)
        boxes = stages[-1].coder.decode(regions, outputs[-1].codes, size.resized)
        boxes = torch.unflatten(boxes, -1, (-1, 4)) / scale  # (R, K, 4)
        return self._with_masks(pyramid, select_detections(boxes, scores, self.config.roi), scale)

    def _with_masks(
        self, pyramid: Sequence[Tensor], found: Detections2D, scale: Tensor
    ) -> Detections2D:
        rois = join_regions([found.boxes * scale])
        rows = torch.arange(len(rois), device=rois.device)
        masks = [
            stage.masks(pyramid, rois)[rows, found.labels].sigmoid()
            for stage in self.stages
            if isinstance(stage, RegionStage)
        ]
        return Detections2D(
            boxes=found.boxes,
            scores=found.scores,
            labels=found.labels,
            mask_values=torch.stack(masks).mean(0),
        )


def select_detections(
    boxes: Tensor,  # (R, K, 4)
    scores: Tensor,  # (R, K + 1), or (R, K) without a background
    config: RoIConfig,
) -> Detections2D:
    """Return the best boxes after suppression within each class, without masks."""
    num_classes = boxes.shape[1]
    region, label = (scores[:, :num_classes] > config.score_threshold).nonzero(as_tuple=True)
    boxes, scores = boxes[region, label], scores[region, label]
    kept = suppress_within(boxes, scores, label, config.nms_iou)[: config.detections]
    return Detections2D(boxes=boxes[kept], scores=scores[kept], labels=label[kept])


def _sample(
    stage: RegionStage,
    boxes: Tensor,  # (R, 4)
    objects: PictureObjects,
    generator: torch.Generator,
    choose: Choice,
) -> tuple[Samples, Tensor]:
    """Return samples of the objects' own boxes and the regions, with the sampled boxes."""
    config = stage.config
    matches = match_boxes(
        boxes,
        objects.boxes,
        positive_iou=stage.iou,
        negative_iou=stage.iou,
        best_iou=stage.iou if config.match_best else None,
    )
    own = torch.arange(len(objects.boxes), device=boxes.device)
    samples = sample_boxes(
        torch.cat((own, matches)),
        count=config.samples,
        positive_share=config.positive_share,
        generator=generator,
        choose=choose,
    )
    candidates = torch.cat((objects.boxes, boxes))
    return samples, candidates[torch.cat((samples.positive, samples.negative))]


def _predict(
    stage: RegionStage, pyramid: Sequence[Tensor], sampled: Sequence[tuple[Samples, Tensor]]
) -> StageOutput:
    positive = [boxes[: len(samples.positive)] for samples, boxes in sampled]
    samples, boxes = zip(*sampled, strict=True)
    return StageOutput(
        samples,
        boxes,
        stage.boxes(pyramid, join_regions(boxes)),
        stage.masks(pyramid, join_regions(positive)),
    )


def _refined(
    stage: RegionStage, output: StageOutput, batch: PictureBatch, num_classes: int
) -> list[Tensor]:  # B x (R_b, 4)
    """Return the next stage's regions: corrected ones, without those that were an object's box."""
    counts = [len(boxes) for boxes in output.boxes]
    refined = []
    for samples, boxes, objects, size, logits, codes in zip(
        output.samples,
        output.boxes,
        batch.objects,
        batch.sizes,
        torch.split(output.box.logits.detach(), counts),
        torch.split(output.box.codes.detach(), counts),
        strict=True,
    ):
        labels = logits[:, :num_classes].argmax(1)
        positives = len(samples.positive)
        labels[:positives] = objects.labels[samples.objects]
        moved = stage.refine(boxes, codes, labels, size.resized)
        kept = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
        kept[:positives] = samples.positive >= len(objects.boxes)
        refined.append(moved[kept])
    return refined
