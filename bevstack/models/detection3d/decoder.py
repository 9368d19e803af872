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
from bevstack.models.detection3d.proposal_queries import (
    ProposalQueries,
    proposal_reference_points,
)
from bevstack.models.layers.deformable_attention import (
    DeformableAttention,
    float32_linear,
    init_projection,
)
from bevstack.models.layers.feedforward import FeedForward
from bevstack.models.perspective.proposals import Proposals

INACTIVE_LOGIT = -1e4  # of inactive queries: no score, no loss, and finite in every dtype


class QuerySelfAttention(nn.Module):
    """Attention of object queries to each other; positions enter queries and keys only."""

    def __init__(self, channels: int, *, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qk_proj = nn.Linear(channels, 2 * channels)
        self.v_proj = nn.Linear(channels, channels)
        self.out_proj = nn.Linear(channels, channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise weights Xavier-uniform, the input maps as one (3C, C) matrix; biases zero."""
        init_projection(self.qk_proj, self.v_proj, self.out_proj)
        bound = math.sqrt(6 / (4 * self.v_proj.in_features))  # of a (3C, C) matrix
        nn.init.uniform_(self.qk_proj.weight, -bound, bound)
        nn.init.uniform_(self.v_proj.weight, -bound, bound)

    def forward(
        self,
        query: Tensor,  # (B, Q, C)
        pos: Tensor,  # (Q, C), or (B, Q, C)
        num_groups: int = 1,  # equal parts of Q
        key_mask: Tensor | None = None,  # (B, Q / num_groups) bool, queries to attend to; None: all
    ) -> Tensor:  # (B, Q, C)
        """Attend to the queries of the same group and return the result without residual.

        The mask is the same in every group. Each row of it must hold at least one True.
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
        output: Tensor = self.out_proj(
            rearrange(attended, "(b g) h q c -> b (g q) (h c)", g=num_groups)
        )
        return output


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
        key_mask: Tensor | None = None,  # (B, Q / num_groups) bool, queries to attend to; None: all
    ) -> Tensor:  # (B, Q, C)
        """Update the queries by attention to each other and to the map, and by feed-forward."""
        attended = self.self_attention(query, pos, num_groups, key_mask)
        query = self.norms[0](query + self.dropout(attended))
        attended = self.cross_attention(query + pos, bev_tokens, reference_points, grid_shape)
        query = self.norms[1](query + self.dropout(attended))
        output: Tensor = self.norms[2](query + self.feedforward(query))
        return output


@dataclass(frozen=True)
class _Queries:
    """Inputs of the first layer; groups follow each other along Q."""

    content: Tensor  # (B, Q, C)
    pos: Tensor  # (Q, C), or (B, Q, C)
    reference_points: Tensor  # (B, Q, 3) float32 normalised
    active: Tensor | None = None  # (B, Q / groups) bool, the same in every group; None: all
    # logits (B, Q, K) and codes (B, Q, 10) that every layer's output is added to; None: zero
    initial_outputs: tuple[Tensor, Tensor] | None = None


class Decoder(nn.Module):
    """Decoder of object queries that attend to the BEV map and refine their boxes by layers.

    In training each of ``config.num_groups`` groups of queries is decoded separately with the same
    weights (Group DETR, arXiv 2207.13085). Evaluation uses the first group alone.

    With proposals, one query a proposal follows each group's learned queries (hybrid object queries
    of BEVFormer v2, arXiv 2211.10439, section 3.5). A sample with fewer proposals has empty rows:
    no query attends to them, and they are not ``active`` in the output.

    Args:
        grid: the BEV grid, which reference points are normalised to.
        config: the decoder's section of the configuration.
        channels: C, of the BEV map.
        num_classes: K.
        num_proposals: P, of every sample; 0 for learned queries alone.
        start_from_boxes: if True, queries of proposals start from the proposals' boxes, classes
            and scores; if False, from their centres alone.
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
        # positional part first, then the initial content of the queries
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
        """Initialise queries from N(0, 1) and the map to reference points Xavier-uniform.

        With proposals, boxes start at their reference points, as in Deformable DETR. Otherwise the
        random output of an untrained branch would move each box away from its proposal.
        """
        nn.init.normal_(self.query_embedding)
        init_projection(self.reference_points)
        if self.proposal_queries is not None:
            from_boxes = self.proposal_queries.box is not None
            self.head.start_at_reference_points(zero_all_outputs=from_boxes)

    def forward(
        self,
        bev: Tensor,  # (B, C, Y, X)
        proposals: Proposals | None = None,  # required if the decoder was built for proposals
    ) -> DecoderOutput:
        """Return logits and boxes of every layer.

        Reference points are detached between layers, and from proposals. The initial ones of
        learned queries pass gradient to the query embedding.

        Raises:
            ValueError: the decoder needs proposals and got none or another number of them, or it
                was built without proposals and got some.
        """
        bev_tokens = rearrange(bev, "b c y x -> b (y x) c")
        groups = self.num_groups if self.training else 1
        start = self._initial_queries(bev.shape[0], groups, proposals)
        key_mask = None
        if start.active is not None:
            # If a sample has no active query, attend to all: softmax needs at least one key.
            key_mask = start.active | ~start.active.any(-1, keepdim=True)
        query, references = start.content, start.reference_points
        layer_outputs = []
        for index, layer in enumerate(self.layers):
            centers = references[..., :2]
            inputs = (query, start.pos, centers, bev_tokens, self.grid.shape, groups, key_mask)
            if self.activation_checkpointing and torch.is_grad_enabled():
                query = checkpoint(layer, *inputs, use_reentrant=False)
            else:
                query = layer(*inputs)
            logits, codes, refined = self.head(index, query, references)
            if start.initial_outputs is not None:
                logits, codes = logits + start.initial_outputs[0], codes + start.initial_outputs[1]
            references = refined.detach()
            layer_outputs.append((logits, codes))
        logits, codes = (torch.stack(outputs) for outputs in zip(*layer_outputs, strict=True))
        if start.active is None:
            return DecoderOutput(logits, codes, groups)
        active = start.active.repeat(1, groups)  # (B, Q)
        return DecoderOutput(
            logits.masked_fill(~active[..., None], INACTIVE_LOGIT), codes, groups, active
        )

    def _initial_queries(self, batch: int, groups: int, proposals: Proposals | None) -> _Queries:
        required = 0 if self.proposal_queries is None else self.proposal_queries.num_proposals
        shape = None if proposals is None else tuple(proposals.valid.shape)
        if shape != ((batch, required) if required else None):
            expected = (
                f"hold {required} rows for each of {batch} samples"
                if required
                else "be None for a decoder without proposals"
            )
            raise ValueError(f"proposals must {expected}; got {shape}")
        table = self.query_embedding[: groups * self.num_queries]
        pos, content = table.chunk(2, -1)  # (Q, C) each
        references = float32_linear(self.reference_points, pos).sigmoid()  # (Q, 3)
        learned = _Queries(content.expand(batch, -1, -1), pos, references.expand(batch, -1, -1))
        if proposals is None or self.proposal_queries is None:
            return learned
        return self._append_proposals(learned, proposals, groups)

    def _append_proposals(self, learned: _Queries, proposals: Proposals, groups: int) -> _Queries:
        """Append the queries of proposals to each group's learned queries."""
        assert self.proposal_queries is not None  # called only then
        batch = len(proposals.valid)
        references = proposal_reference_points(proposals)
        # (G, P, C), or (B, G, P, C) with boxes; and (B, P, C)
        content, pos = self.proposal_queries(proposals, groups)

        def append(learned_rows: Tensor, proposal_rows: Tensor) -> Tensor:  # to (B, Q, ...)
            learned_rows = torch.unflatten(
                learned_rows.expand(batch, -1, -1), 1, (groups, self.num_queries)
            )
            proposal_rows = proposal_rows.expand(batch, groups, -1, -1)
            return torch.cat((learned_rows, proposal_rows), 2).flatten(1, 2)

        active = functional.pad(proposals.valid, (self.num_queries, 0), value=True)
        initial_outputs = None
        if self.proposal_queries.box is not None:
            padding = (0, 0, self.num_queries, 0)  # zeros for the learned queries
            logits, codes = (
                functional.pad(output, padding).repeat(1, groups, 1)
                for output in self.proposal_queries.initial_outputs(proposals)
            )
            initial_outputs = logits, codes
        return _Queries(
            content=append(learned.content, content),
            pos=append(learned.pos, pos[:, None]),
            reference_points=append(learned.reference_points, references[:, None]),
            active=active,
            initial_outputs=initial_outputs,
        )
