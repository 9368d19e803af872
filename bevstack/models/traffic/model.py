"""The model of lights and signs: backbone, dense head, regions, place, relevance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bevstack.config.traffic import TrafficConfig
from bevstack.geometry import BEVGrid
from bevstack.models.backbones.internimage import InternImage
from bevstack.models.backbones.resnet import ResNet
from bevstack.models.temporal.past_frames import evaluation_mode
from bevstack.models.traffic.calibration import Calibration
from bevstack.models.traffic.dense import DenseHead, DenseOutput, Regions, find_regions
from bevstack.models.traffic.map_evidence import BEVMap, sample_map
from bevstack.models.traffic.place import Place, locate
from bevstack.models.traffic.regions import RegionHead, RegionOutput
from bevstack.models.traffic.relevance import RelevanceHead
from bevstack.types.traffic_batch import TrafficTargets, TrafficViews

_JITTER = 0.15  # largest shift of a true box that becomes a region, in sides


class TrafficOutput(NamedTuple):
    """Output for M images: everywhere on the map, and for R regions."""

    dense: DenseOutput
    regions: Regions
    region: RegionOutput
    place: Place
    relevance: Tensor  # (R, len(MANOEUVRES)) log-odds, before calibration


class TrafficModel(nn.Module):
    """Lights and signs in the front cameras, on the first stages of a shared backbone.

    Args:
        config: the traffic section of the configuration.
        backbone: the detector's backbone.
        grid: of the detector's BEV map.
        bev_channels: of that map.
    """

    def __init__(
        self,
        config: TrafficConfig,
        backbone: InternImage | ResNet,
        *,
        grid: BEVGrid,
        bev_channels: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.grid = grid
        self.backbone = backbone
        channels = [backbone.config.stage_channels[stage] for stage in self.config.stages]
        self.dense = DenseHead(self.config, in_channels=channels)
        self.regions = RegionHead(self.config)
        self.relevance = RelevanceHead(self.config, bev_channels=bev_channels)
        self.calibration = Calibration()

    def forward(
        self,
        views: TrafficViews,
        targets: TrafficTargets | None = None,
        *,
        bev: BEVMap | None = None,
    ) -> TrafficOutput:
        """Detect lights and signs; in training, true boxes become regions too.

        Args:
            views: images of the front cameras.
            targets: labels, in training.
            bev: the BEV map of the same samples, for ``relevance_map``; None: judge without it.

        Raises:
            ValueError: a map is given, but ``relevance_map`` is off.
        """
        dense = self.dense(self.run_backbone(views.images), views.images)
        regions = find_regions(dense, views.image_size, self.config.max_candidates)
        if targets is not None:
            regions = _with_true_boxes(regions, targets, dense)
        region = self.regions(dense.features, views, regions)
        place = locate(views, regions, region, bearing_std_px=self.config.bearing_std_px)
        sampled, known = None, None
        if bev is not None:
            sample = views.sample[regions.image]
            sampled = sample_map(bev, self.grid, views, place.position_m, sample)
            known = bev.known[sample]
        relevance = self.relevance(views, regions, region, place, sampled, known)
        return TrafficOutput(dense, regions, region, place, relevance)

    def run_backbone(self, images: Tensor) -> Sequence[Tensor]:
        """Return the maps of the stages in use; without gradient if it is not to be trained."""
        assert isinstance(self.backbone, (InternImage, ResNet))
        if self.config.train_backbone:
            return self.backbone.run_stages(images, self.config.stages)
        with evaluation_mode(self.backbone):
            return self.backbone.run_stages(images, self.config.stages)


@torch.no_grad()
def _with_true_boxes(regions: Regions, targets: TrafficTargets, dense: DenseOutput) -> Regions:
    """Add every learned true box, shifted and scaled at random, as a region of logit 0."""
    learned = targets[~targets.ignored]
    boxes = learned.boxes_px
    side = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = torch.empty_like(boxes).uniform_(-_JITTER, _JITTER)
    return Regions(
        torch.cat((regions.image, learned.image)),
        torch.cat((regions.kind, learned.kind)),
        torch.cat((regions.boxes_px, boxes + side * noise)),
        torch.cat((regions.logits, dense.logits.new_zeros(len(learned)))),
    )
