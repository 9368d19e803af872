"""The Deformable-DETR decoder on the BEV map (arXiv 2010.04159; BEVFormer, section 3.5).

Letters: B batch, Q object queries, C channels, H heads, Y X grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from bevstack.config import DecoderConfig
from bevstack.geometry import BEVGrid
from bevstack.models.detection3d.box_code import DecoderOutput
from bevstack.models.detection3d.detection_head import DetectionHead
from bevstack.models.detection3d.proposal_queries import ProposalQueries, places_of
from bevstack.models.layers.deformable_attention import (
    DeformableAttention,
    float32_linear,
    init_projection,
)
from bevstack.models.layers.feedforward import FeedForward
from bevstack.models.perspective.proposals import Proposals

INACTIVE_LOGIT = -1e4  # of queries that say nothing: no score, no loss, and finite in every dtype


class QuerySelfAttention(nn.Module):
    """Attention of the object queries to one another; positions enter queries and keys only."""

    def __init__(self, channels: int, *, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qk_proj = nn.Linear(channels, 2 * channels)
        self.v_proj = nn.Linear(channels, channels)
        self.out_proj = nn.Linear(channels, channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier-uniform, the three input maps as one matrix; zero biases."""
        init_projection(self.qk_proj, self.v_proj, self.out_proj)
        bound = math.sqrt(6 / (4 * self.v_proj.in_features))  # of a (3C, C) matrix
        nn.init.uniform_(self.qk_proj.weight, -bound, bound)
        nn.init.uniform_(self.v_proj.weight, -bound, bound)

    def forward(
        self,
        query: Tensor,  # (B, Q, C)
        pos: Tensor,  # (Q, C), or (B, Q, C)
        num_groups: int = 1,  # equal parts of Q
        key_mask: Tensor | None = None,  # (B, Q / num_groups) bool, who is listened to; none: all
    ) -> Tensor:  # (B, Q, C)
        """What the queries take from one another within their group, without residual.

        The mask is the same in every group; each row of it holds at least one query.
        """
        q, k = self.qk_proj(query + pos).chunk(2, -1)
        q, k, v = (
            rearrange(x, "b (g q) (h c) -> (b g) h q c", g=num_groups, h=self.num_heads)
            for x in (q, k, self.v_proj(query))
        )
        mask = None
        if key_mask is not None:
            mask = key_mask.repeat_interleave(num_groups, 0)[:, None, None]  # (B * G, 1, 1, Q / G)
        dropout = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout)
        return self.out_proj(rearrange(attended, "(b g) h q c -> b (g q) (h c)", g=num_groups))


class DecoderLayer(nn.Module):
    """Self-attention, deformable cross-attention to the BEV map, feed-forward; post-norm."""

    def __init__(self, config: DecoderConfig, *, channels: int) -> None:
        super().__init__()
        self.self_attention = QuerySelfAttention(
            channels, num_heads=config.num_heads, dropout=config.dropout
        )
        self.cross_attention = DeformableAttention(
            channels, num_heads=config.num_heads, num_points=config.num_points
        )
        self.feedforward = FeedForward(
            channels, config.feedforward_channels, dropout=config.dropout
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        query: Tensor,  # (B, Q, C)
        pos: Tensor,  # (Q, C), or (B, Q, C)
        reference_points: Tensor,  # (B, Q, 2) normalised x, y
        bev_tokens: Tensor,  # (B, Y * X, C)
        grid_shape: tuple[int, int],  # (Y, X)
        num_groups: int = 1,  # equal parts of Q
        key_mask: Tensor | None = None,  # (B, Q / num_groups) bool, who is listened to; none: all
    ) -> Tensor:  # (B, Q, C)
        """One round of talking to the other queries and looking at the map."""
        heard = self.self_attention(query, pos, num_groups, key_mask)
        query = self.norms[0](query + self.dropout(heard))
        attended = self.cross_attention(query + pos, bev_tokens, reference_points, grid_shape)
        query = self.norms[1](query + self.dropout(attended))
        return self.norms[2](query + self.feedforward(query))


@dataclass(frozen=True)
class _Queries:
    """What the first layer starts with; groups one after the other along Q."""

    content: Tensor  # (B, Q, C)
    pos: Tensor  # (Q, C), or (B, Q, C)
    reference_points: Tensor  # (B, Q, 3) float32 normalised
    active: Tensor | None = None  # (B, Q / groups) bool, the same in every group; none: all
    # what the layers correct: logits (B, Q, K) and codes (B, Q, 10); none: they say all themselves
    begun: tuple[Tensor, Tensor] | None = None


class Decoder(nn.Module):
    """Object queries find objects on the BEV map and refine their boxes layer by layer.

    In training each of ``config.num_groups`` groups of queries does so by itself, sharing all else
    (Group DETR, arXiv 2207.13085); in evaluation there is the first group alone. With proposals
    each group's learned queries are followed by one query a proposal (hybrid object queries of
    BEVFormer v2, arXiv 2211.10439, section 3.5); places left empty in a sample are listened to by
    no query and are not ``active`` in the output.

    Args:
        grid: the BEV grid, which reference points are normalised to.
        config: the decoder's section of the configuration.
        channels: C, of the BEV map.
        num_classes: K.
        num_proposals: P, of every sample; 0 for learned queries alone.
        start_from_boxes: whether queries of proposals start from boxes, not from places alone.
    """

    def __init__(
        self,
        grid: BEVGrid,
        config: DecoderConfig,
        *,
        channels: int,
        num_classes: int,
        num_proposals: int = 0,
        start_from_boxes: bool = False,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.num_queries = config.num_queries
        self.num_groups = config.num_groups
        self.activation_checkpointing = config.activation_checkpointing
        # positional part first, then the content the queries start with
        rows = config.num_groups * config.num_queries
        self.query_embedding = nn.Parameter(torch.empty(rows, 2 * channels))
        self.reference_points = nn.Linear(channels, 3)
        self.layers = nn.ModuleList(
            DecoderLayer(config, channels=channels) for _ in range(config.num_layers)
        )
        self.head = DetectionHead(
            grid, channels=channels, num_classes=num_classes, num_layers=config.num_layers
        )
        self.proposal_queries = None
        if num_proposals:
            self.proposal_queries = ProposalQueries(
                channels,
                num_proposals=num_proposals,
                num_groups=config.num_groups,
                num_classes=num_classes if start_from_boxes else None,
            )
        self.init_weights()

    def init_weights(self) -> None:
        """Queries from N(0, 1); the map to reference points Xavier-uniform.

        With proposals boxes start at their reference points, as in Deformable DETR: a proposal
        would lose its place to what an untrained branch says.
        """
        nn.init.normal_(self.query_embedding)
        init_projection(self.reference_points)
        if self.proposal_queries is not None:
            from_boxes = self.proposal_queries.box is not None
            self.head.start_at_reference_points(whole=from_boxes)

    def forward(
        self,
        bev: Tensor,  # (B, C, Y, X)
        proposals: Proposals | None = None,  # given exactly where the decoder takes them
    ) -> DecoderOutput:
        """Logits and boxes of every layer.

        A layer's reference points carry no gradient to the layers before it, nor to proposals; the
        first ones of learned queries do to the query embedding.

        Raises:
            ValueError: proposals missing, not asked for, or not as many as the decoder takes.
        """
        bev_tokens = rearrange(bev, "b c y x -> b (y x) c")
        groups = self.num_groups if self.training else 1
        start = self._start(bev.shape[0], groups, proposals)
        heard = None
        if start.active is not None:  # where nobody is active, all are heard: a row needs somebody
            heard = start.active | ~start.active.any(-1, keepdim=True)
        query, references = start.content, start.reference_points
        said = []
        for index, layer in enumerate(self.layers):
            places = references[..., :2]
            inputs = (query, start.pos, places, bev_tokens, self.grid.shape, groups, heard)
            if self.activation_checkpointing and torch.is_grad_enabled():
                query = checkpoint(layer, *inputs, use_reentrant=False)
            else:
                query = layer(*inputs)
            logits, codes, refined = self.head(index, query, references)
            if start.begun is not None:
                logits, codes = logits + start.begun[0], codes + start.begun[1]
            references = refined.detach()
            said.append((logits, codes))
        logits, codes = (torch.stack(of_layers) for of_layers in zip(*said, strict=True))
        if start.active is None:
            return DecoderOutput(logits, codes, groups)
        active = start.active.repeat(1, groups)  # (B, Q)
        return DecoderOutput(
            logits.masked_fill(~active[..., None], INACTIVE_LOGIT), codes, groups, active
        )

    def _start(self, batch: int, groups: int, proposals: Proposals | None) -> _Queries:
        wanted = 0 if self.proposal_queries is None else self.proposal_queries.num_proposals
        given = None if proposals is None else tuple(proposals.valid.shape)
        if given != ((batch, wanted) if wanted else None):
            expected = f"hold {wanted} places for each of {batch} samples" if wanted else "be None"
            raise ValueError(f"proposals of this decoder must {expected}; got {given}")
        table = self.query_embedding[: groups * self.num_queries]
        pos, content = table.chunk(2, -1)  # (Q, C) each
        references = float32_linear(self.reference_points, pos).sigmoid()  # (Q, 3)
        learned = _Queries(content.expand(batch, -1, -1), pos, references.expand(batch, -1, -1))
        if proposals is None or self.proposal_queries is None:
            return learned
        return self._beside(learned, proposals, groups)

    def _beside(self, learned: _Queries, proposals: Proposals, groups: int) -> _Queries:
        """Each group's learned queries, and after them its queries of the proposals."""
        assert self.proposal_queries is not None  # called only then
        batch = len(proposals.valid)
        places = places_of(proposals)
        # (G, P, C), or (B, G, P, C), and (B, P, C)
        content, pos = self.proposal_queries(proposals, groups)

        def joined(of_learned: Tensor, of_proposals: Tensor) -> Tensor:  # to (B, Q, ...)
            of_learned = of_learned.expand(batch, -1, -1).unflatten(1, (groups, self.num_queries))
            of_proposals = of_proposals.expand(batch, groups, -1, -1)
            return torch.cat((of_learned, of_proposals), 2).flatten(1, 2)

        active = functional.pad(proposals.valid, (self.num_queries, 0), value=True)
        begun = None
        if self.proposal_queries.box is not None:
            behind_learned = (0, 0, self.num_queries, 0)
            logits, codes = (
                functional.pad(said, behind_learned).repeat(1, groups, 1)
                for said in self.proposal_queries.as_said(proposals)
            )
            begun = logits, codes
        return _Queries(
            content=joined(learned.content, content),
            pos=joined(learned.pos, pos[:, None]),
            reference_points=joined(learned.reference_points, places[:, None]),
            active=active,
            begun=begun,
        )
