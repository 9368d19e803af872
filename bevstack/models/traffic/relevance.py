"""Relevance: does an element govern the own vehicle's path, for each of its manoeuvres.

Inputs are what a vehicle knows: the element as predicted, its position and the own motion. The
manoeuvre is the column of the result. A caller may add a BEV map of the same samples; neither
training nor the predictors of this package do. Letters: R regions, B samples.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.traffic import TrafficConfig
from bevstack.geometry import BEVGrid
from bevstack.models.traffic.dense import Regions
from bevstack.models.traffic.place import Place
from bevstack.models.traffic.regions import RegionOutput
from bevstack.types.traffic_batch import TrafficViews
from bevstack.vocabulary import LAMP_SHAPES, LIGHT_COLORS, MANOEUVRES, SIGN_MEANINGS

_CHANNELS, _HEADS = 64, 4
_PLACE = 13
_FACTORS = len(LIGHT_COLORS) + len(LAMP_SHAPES) + 1 + len(SIGN_MEANINGS)
_MAX_CURVATURE = 0.2  # 1 / m


class RelevanceHead(nn.Module):
    """Attention among the elements of a sample, as lights of neighbouring lanes explain each other.

    Gradients stop at the inputs: the position and state of an element are learned from their own
    labels alone.
    """

    def __init__(self, config: TrafficConfig, *, bev_channels: int) -> None:
        super().__init__()
        inputs = config.roi_channels + _PLACE + _FACTORS
        self.element = nn.Sequential(nn.Linear(inputs, _CHANNELS), nn.ReLU())
        self.bev = nn.Linear(bev_channels + 1, _CHANNELS)
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
        bev: Tensor | None = None,  # (R, C + 1) from ``sample_bev``
    ) -> Tensor:  # (R, len(MANOEUVRES))
        """Return log-odds that each element governs the own vehicle, for each manoeuvre."""
        sample = views.sample[regions.image]  # (R,)
        factors = (output.color, output.shape, output.pedestrian[:, None], output.meaning)
        known = (output.hidden, place_features(views, regions, output, place), *factors)
        query: Tensor = self.element(torch.cat([part.detach().float() for part in known], 1))
        if bev is None:
            bev = query.new_zeros(len(query), self.bev.in_features)
        query = query + self.bev(bev.detach().to(query.dtype))
        padded, mask, column = _padded(query, sample, len(views.ego_motion))
        attended, _ = self.attention(padded, padded, padded, key_padding_mask=mask)
        hidden = self.norm(query + attended[sample, column])
        logits: Tensor = self.output(hidden)
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
    bent = curvature.clamp(-_MAX_CURVATURE, _MAX_CURVATURE) * x.square() / 2
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


def sample_bev(
    bev: Tensor,  # (B, C, Y, X)
    grid: BEVGrid,
    bev_from_ego: Tensor,  # (B, 4, 4) float64
    position_m: Tensor,  # (R, 3) in the ego frame
    sample: Tensor,  # (R,) int64
) -> Tensor:  # (R, C + 1)
    """Sample the BEV map at the elements; the last column is 1 inside the grid, else all are 0."""
    poses = bev_from_ego.to(position_m.dtype)[sample]
    points = (poses[:, :3, :3] @ position_m[..., None])[..., 0] + poses[:, :3, 3]
    u, v, _ = (grid.to_normalised(points) * 2 - 1).unbind(1)
    inside = ((u.abs() < 1) & (v.abs() < 1)).to(bev.dtype)
    found = bev.new_zeros(len(points), bev.shape[1])
    for row in range(len(bev)):
        own = (sample == row).nonzero()[:, 0]
        place = torch.stack((u[own], v[own]), -1).to(bev.dtype)[None, None]  # (1, 1, n, 2)
        values = functional.grid_sample(bev[row : row + 1], place, align_corners=False)
        found = found.index_copy(0, own, values[0, :, 0].T)
    return torch.cat((found, torch.ones_like(found[:, :1])), 1) * inside[:, None]


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
