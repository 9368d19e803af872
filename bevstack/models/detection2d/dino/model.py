"""DINO (arXiv 2203.03605) on InternImage.

Letters: B batch, L levels, S cells of all levels, N queries with noise, Q without, K classes, R
layers of the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from bevstack.config.dino import DinoDetectorConfig
from bevstack.models.backbones.composite import CompositeInternImage
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.detection2d.boxes import clip_boxes
from bevstack.models.detection2d.dino.neck import ChannelMapper
from bevstack.models.detection2d.dino.noise import (
    Draws,
    NoisedQueries,
    hidden_queries,
    noised_queries,
)
from bevstack.models.detection2d.dino.positions import (
    Levels,
    cell_proposals,
    encode_boxes,
    find_levels,
    inverse_sigmoid,
    reference_points,
)
from bevstack.models.detection2d.dino.transformer import (
    DecoderLayer,
    box_branch,
    encoder_layer,
)
from bevstack.models.layers.sine_positions import encode_cells
from bevstack.types.pictures2d import Detections2D, PictureBatch, PictureSize

PRIOR = 0.01  # initial score of each class


class DinoOutput(NamedTuple):
    """Predictions of every layer; boxes are centre, width and height, shares of the picture."""

    logits: Tensor  # (R, B, N + Q, K)
    boxes: Tensor  # (R, B, N + Q, 4)
    proposal_logits: Tensor  # (B, Q, K) of the encoder's best cells
    proposal_boxes: Tensor  # (B, Q, 4)
    noised: NoisedQueries | None  # in training
    # Of the maps of the first of two backbones, in training; its losses count less
    first: DinoOutput | None = None


class Dino(nn.Module):
    """Detector of boxes in single pictures."""

    def __init__(
        self,
        config: DinoDetectorConfig,
        backbone: InternImage | CompositeInternImage | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        dino, self.num_classes = config.dino, len(config.class_names)
        kind = CompositeInternImage if config.composite else InternImage
        self.backbone = kind(config.backbone) if backbone is None else backbone
        channels = dino.channels
        self.neck = ChannelMapper(
            config.backbone.out_channels, channels=channels, groups=dino.norm_groups
        )
        self.level_embeds = nn.Parameter(torch.empty(dino.num_levels, channels))
        self.encoder = nn.ModuleList(encoder_layer(dino) for _ in range(dino.encoder_layers))
        self.proposal_linear = nn.Linear(channels, channels)
        self.proposal_norm = nn.LayerNorm(channels)
        self.query_embed = nn.Embedding(dino.num_queries, channels)
        self.label_embedding = nn.Embedding(self.num_classes, channels)
        self.reference_head = nn.Sequential(
            nn.Linear(2 * channels, channels), nn.ReLU(), nn.Linear(channels, channels)
        )
        self.decoder = nn.ModuleList(DecoderLayer(dino) for _ in range(dino.decoder_layers))
        self.decoder_norm = nn.LayerNorm(channels)
        branches = dino.decoder_layers + 1  # the last is the encoder's
        self.class_branches = nn.ModuleList(
            nn.Linear(channels, self.num_classes) for _ in range(branches)
        )
        self.box_branches = nn.ModuleList(box_branch(channels) for _ in range(branches))
        self._init_weights()

    def _init_weights(self) -> None:
        nn.init.normal_(self.level_embeds)
        for branch in self.class_branches:
            nn.init.constant_(
                cast(nn.Linear, branch).bias,
                -float(torch.tensor(1 / PRIOR - 1, device="cpu").log()),
            )
        for module in self.box_branches:  # initial sides of the decoder's first boxes
            nn.init.constant_(cast(nn.Linear, cast(nn.Sequential, module)[-1]).bias[2:], 0.0)

    def forward(
        self,
        batch: PictureBatch,
        maps: Sequence[Tensor] | None = None,  # of the backbone; None: computed
        *,
        draws: Draws | None = None,  # of the noise, in training; None: from the seeds
    ) -> DinoOutput:
        """Predict classes and boxes; with objects in the batch, of noised objects too.

        In training mode, the maps of the first of two backbones give predictions as well.
        """
        if maps is not None:
            return self._predict(batch, maps, draws)
        if not (self.training and isinstance(self.backbone, CompositeInternImage)):
            return self._predict(batch, self.backbone(batch.images), draws)
        pairs = zip(*self.backbone.both(batch.images), strict=True)
        twice = [torch.cat(pair) for pair in pairs]  # the first backbone's, then the second's
        output = self._predict(_doubled(batch), twice, draws)
        count = len(batch.sizes)
        first, second = (_rows(output, slice(s, s + count)) for s in (0, count))
        return second._replace(first=first)

    def _predict(
        self, batch: PictureBatch, maps: Sequence[Tensor], draws: Draws | None
    ) -> DinoOutput:
        levels = self.neck(maps)
        padded = (int(batch.images.shape[2]), int(batch.images.shape[3]))
        sizes = [size.resized for size in batch.sizes]
        where = find_levels(levels, sizes, padded)
        padding = torch.cat([mask.flatten(1) for mask in where.padding], 1)  # (B, S)
        memory = self.encode(levels, where, padding)
        logits, anchors = self.propose(memory, where)
        noised = self._noised(batch, draws)
        query = self.query_embed.weight[None].expand(len(sizes), -1, -1)
        reference = anchors.detach().sigmoid()
        hidden = None
        if noised is not None:
            embedded = self.label_embedding(noised.labels.clamp(min=0))
            embedded = embedded * (noised.labels >= 0)[..., None]
            query = torch.cat((embedded, query), 1)
            reference = torch.cat((noised.boxes.sigmoid(), reference), 1)
            hidden = hidden_queries(noised, self.config.dino.num_queries, query.device)
        classes, boxes = self.decode(query, reference, memory, where, padding, hidden)
        return DinoOutput(classes, boxes, logits, anchors.sigmoid(), noised)

    def encode(
        self, levels: Sequence[Tensor], where: Levels, padding: Tensor
    ) -> Tensor:  # (B, S, C)
        """Return the cells of all levels after the encoder."""
        dino = self.config.dino
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        positions = [
            encode_cells(mask, channels=dino.channels, temperature=dino.temperature).flatten(1, 2)
            + embed
            for mask, embed in zip(where.padding, self.level_embeds, strict=True)
        ]
        position, references = torch.cat(positions, 1), reference_points(where)
        for layer in self.encoder:
            x = layer(x, position, references, padding=padding, shapes=where.shapes)
        return x

    def propose(
        self, memory: Tensor, where: Levels
    ) -> tuple[Tensor, Tensor]:  # (B, Q, K), (B, Q, 4) logits of boxes
        """Return classes and boxes of the best cells."""
        proposals, usable = cell_proposals(where)
        kept = memory.masked_fill(~usable[..., None], 0.0)
        kept = self.proposal_norm(self.proposal_linear(kept))
        logits = self.class_branches[-1](kept)
        boxes = self.box_branches[-1](kept) + proposals
        best = logits.amax(-1).topk(self.config.dino.num_queries, dim=1).indices[..., None]
        return (
            logits.gather(1, best.expand(-1, -1, logits.shape[-1])),
            boxes.gather(1, best.expand(-1, -1, 4)),
        )

    def decode(
        self,
        query: Tensor,  # (B, Q, C)
        reference: Tensor,  # (B, Q, 4)
        memory: Tensor,  # (B, S, C)
        where: Levels,
        padding: Tensor,  # (B, S) bool
        hidden: Tensor | None,
    ) -> tuple[Tensor, Tensor]:  # (R, B, Q, K), (R, B, Q, 4)
        """Return classes and boxes of every layer.

        A layer starts from the previous one's boxes without their gradient, but its own boxes are
        a correction to those with it ("look forward twice").
        """
        ratios = torch.cat((where.valid_ratios, where.valid_ratios), -1)  # (B, L, 4)
        classes, boxes, attached = [], [], reference
        for layer, class_branch, branch in zip(
            self.decoder, self.class_branches, self.box_branches, strict=False
        ):
            scaled = reference[:, :, None] * ratios[:, None]  # (B, Q, L, 4)
            position = self.reference_head(encode_boxes(scaled[:, :, 0], query.shape[-1]))
            query = layer(
                query,
                position,
                memory,
                scaled,
                hidden=hidden,
                padding=padding,
                shapes=where.shapes,
            )
            output = self.decoder_norm(query)
            classes.append(class_branch(output))
            boxes.append((branch(output) + inverse_sigmoid(attached)).sigmoid())
            attached = (branch(query) + inverse_sigmoid(reference)).sigmoid()
            reference = attached.detach()
        return torch.stack(classes), torch.stack(boxes)

    def _noised(self, batch: PictureBatch, draws: Draws | None) -> NoisedQueries | None:
        dino = self.config.dino
        if not batch.objects or not dino.noised_queries:
            return None
        device = self.level_embeds.device
        return noised_queries(
            [own.labels for own in batch.objects],
            [
                relative_boxes(own.boxes, size)
                for own, size in zip(batch.objects, batch.sizes, strict=True)
            ],
            most=dino.noised_queries,
            label_noise=dino.label_noise,
            box_noise=dino.box_noise,
            num_classes=self.num_classes,
            draws=Draws.seeded(batch.seeds, device) if draws is None else draws,
        )

    @torch.no_grad()
    def detect(self, batch: PictureBatch) -> list[Detections2D]:
        """Return the best boxes of each picture, in its own pixels."""
        output = self(batch)
        rows = zip(output.logits[-1], output.boxes[-1], batch.sizes, strict=True)
        return [self.select(logits, boxes, size) for logits, boxes, size in rows]

    def select(
        self,
        logits: Tensor,  # (Q, K)
        boxes: Tensor,  # (Q, 4)
        size: PictureSize,
    ) -> Detections2D:
        """Return the pairs of query and class with the best scores."""
        flat = logits.sigmoid().flatten()
        scores, index = flat.topk(min(self.config.dino.detections, len(flat)))
        box = boxes[index // self.num_classes]
        corners = torch.cat((box[:, :2] - 0.5 * box[:, 2:], box[:, :2] + 0.5 * box[:, 2:]), 1)
        height, width = size.resized
        corners = corners * corners.new_tensor([width, height, width, height])
        corners = clip_boxes(corners, size.resized) / size.scale(corners.device)
        return Detections2D(boxes=corners, scores=scores, labels=index % self.num_classes)


def _doubled(batch: PictureBatch) -> PictureBatch:
    """Return a batch with each picture twice; only the shape of its images is of use."""
    return replace(
        batch,
        sizes=batch.sizes * 2,
        names=batch.names * 2,
        objects=batch.objects * 2,
        seeds=batch.seeds * 2,
    )


def _rows(output: DinoOutput, rows: slice) -> DinoOutput:
    """Return the output of some pictures of a batch."""
    noised = output.noised
    if noised is not None:
        noised = noised._replace(labels=noised.labels[rows], boxes=noised.boxes[rows])
    return DinoOutput(
        output.logits[:, rows],
        output.boxes[:, rows],
        output.proposal_logits[rows],
        output.proposal_boxes[rows],
        noised,
    )


def relative_boxes(
    boxes: Tensor,  # (T, 4) corners in pixels of the network's input
    size: PictureSize,
) -> Tensor:  # (T, 4) centre, width and height, shares of the picture
    """Return boxes as centre, width and height relative to the picture."""
    height, width = size.resized
    centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return torch.cat((centers, sides), 1) / boxes.new_tensor([width, height, width, height])
