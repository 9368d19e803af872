"""Relevance: does an element govern the own vehicle's path, for each of its manoeuvres.

Inputs are what a vehicle knows: the element as predicted, its position and the own motion. The
manoeuvre is the column of the result. With ``TrafficConfig.relevance_map`` the BEV map of the same
samples is a further input (``map_evidence``). Letters: R regions, B samples.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bevstack.config.traffic import TrafficConfig
from bevstack.models.traffic.dense import Regions
from bevstack.models.traffic.map_evidence import MAX_CURVATURE, MapEvidence
from bevstack.models.traffic.place import Place
from bevstack.models.traffic.regions import RegionOutput
from bevstack.types.traffic_batch import TrafficViews
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS, MANOEUVRES, SIGN_MEANINGS

_CHANNELS, _HEADS = 64, 4
_PLACE = 13
_FACTORS = len(LIGHT_COLORS) + len(LAMP_SHAPES) + 1 + len(SIGN_MEANINGS)


class RelevanceHead(nn.Module):
    """Attention among the elements of a sample, as lights of neighbouring lanes explain each other.

    Gradients stop at the inputs: the position and state of an element are learned from their own
    labels alone.
    """

    def __init__(self, config: TrafficConfig, *, bev_channels: int) -> None:
        super().__init__()
        inputs = config.roi_channels + _PLACE + _FACTORS
        self.element = nn.Sequential(nn.Linear(inputs, _CHANNELS), nn.ReLU())
        # Only its bias is used; the weights belong to the format of the files.
        self.bev = nn.Linear(bev_channels + 1, _CHANNELS)
        self.map_evidence = (
            MapEvidence(bev_channels=bev_channels, element_channels=_CHANNELS)
            if config.relevance_map
            else None
        )
        self.attention = nn.MultiheadAttention(_CHANNELS, _HEADS, batch_first=True)
        self.norm = nn.LayerNorm(_CHANNELS)
        self.output = nn.Sequential(
            nn.Linear(_CHANNELS, _CHANNELS), nn.ReLU(), nn.Linear(_CHANNELS, len(MANOEUVRES))
        )

    def forward(
        self,
        views: TrafficViews,
        regions: Regions,
        output: RegionOutput,
        place: Place,
        sampled: Tensor | None = None,  # (R, M, NUM_POINTS, C + 1) from ``sample_map``
        has_map: Tensor | None = None,  # (R,) bool; None: no sample has one
    ) -> Tensor:  # (R, len(MANOEUVRES))
        """Return log-odds that each element governs the own vehicle, for each manoeuvre.

        Raises:
            ValueError: a map is given to a head that takes none.
        """
        inputs = self.inputs(views, regions, output, place)
        sample = views.sample[regions.image]  # (R,)
        return self.judge(inputs, sample, len(views.ego_motion), sampled, has_map)

    def inputs(
        self, views: TrafficViews, regions: Regions, output: RegionOutput, place: Place
    ) -> Tensor:  # (R, D) without gradient
        """Return the elements as the head takes them."""
        factors = (output.color, output.shape, output.pedestrian[:, None], output.meaning)
        known = (output.hidden, place_features(views, regions, output, place), *factors)
        return torch.cat([part.detach().float() for part in known], 1)

    def judge(
        self,
        inputs: Tensor,  # (R, D) of ``inputs``
        sample: Tensor,  # (R,) int64
        count: int,  # B
        sampled: Tensor | None = None,  # (R, M, NUM_POINTS, C + 1) from ``sample_map``
        has_map: Tensor | None = None,  # (R,) bool; None: no sample has one
    ) -> Tensor:  # (R, len(MANOEUVRES))
        """Return the log-odds of elements from the head's inputs, as ``forward``.

        Raises:
            ValueError: a map is given to a head that takes none.
        """
        if self.map_evidence is None and sampled is not None:
            raise ValueError(
                "sampled must be None without traffic.relevance_map; got a map's samples"
            )
        query: Tensor = self.element(inputs)
        query = query + self.bev(query.new_zeros(len(query), self.bev.in_features))
        padded, mask, column = _padded(query, sample, count)
        attended, _ = self.attention(padded, padded, padded, key_padding_mask=mask)
        hidden = self.norm(query + attended[sample, column])
        logits: Tensor = self.output(hidden)
        if self.map_evidence is not None and sampled is not None and has_map is not None:
            logits = logits + self.map_evidence(hidden, sampled, has_map)
        return logits.float()


def place_features(
    views: TrafficViews, regions: Regions, output: RegionOutput, place: Place
) -> Tensor:  # (R, _PLACE)
    """Return the position relative to the own path, heading, score and motion, all scaled.

    The path is the circle of the present curvature: y = curvature * x^2 / 2.
    """
    motion = views.ego_motion[views.sample[regions.image]].double()  # (R, 3)
    speed, curvature, known = motion.unbind(1)
    x, y, z = place.position_m.unbind(1)
    bent = curvature.clamp(-MAX_CURVATURE, MAX_CURVATURE) * x.square() / 2
    offset = y - bent.clamp(-50, 50)
    spread = place.cov_m2.diagonal(dim1=1, dim2=2).sum(1).sqrt()
    columns = (
        x / 50,
        y / 20,
        z / 5,
        offset / 10,
        offset / x.clamp(min=5.0),  # an angle, which an error of the depth does not change
        spread / 10,
        place.heading_rad.cos(),
        place.heading_rad.sin(),
        (speed / 15),
        curvature * 20,
        known,
        output.score.detach().double().clamp(-8, 8) / 4,
        regions.kind.double(),
    )
    return torch.stack(columns, 1).float()


def _padded(
    query: Tensor,  # (R, D)
    sample: Tensor,  # (R,)
    count: int,  # B
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries (B, K, D), a mask (B, K), True where there is none, and each query's column.

    One column more than needed is left out by the mask but for samples without any query, whose
    attention would have no key.
    """
    same = sample[:, None] == sample
    earlier = torch.ones_like(same).tril(-1)
    column = (same & earlier).sum(1)  # (R,)
    width = int(column.max()) + 1 if len(column) else 1
    padded = query.new_zeros(count, width, query.shape[1])
    padded = padded.index_put((sample, column), query)
    mask = torch.ones(count, width, dtype=torch.bool, device=query.device)
    mask[sample, column] = False
    mask[:, 0] = False
    return padded, mask, column
