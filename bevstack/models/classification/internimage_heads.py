"""InternImage as an image classifier: the two released heads on the backbone.

Letters: B batch, C channels, D embedding, T tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from bevstack.config.internimage import InternImageConfig
from bevstack.models.backbones.dcnv3_layer import build_activation
from bevstack.models.backbones.internimage import InternImage, start_linear
from bevstack.models.layers.norms import NORM_EPS

EMBED_DIM = 1024  # of the pooled tokens; released code, as the next three
POOL_HEADS = 16
POOL_OUT_DIM = 768
UPSCALE = 2  # the last stage is brought to the resolution of the one before


class ConvHead(nn.Module):
    """1x1 convolution, batch norm, activation, mean over the map, linear (T to XL)."""

    reads = 1  # stages, counted from the last

    def __init__(self, config: InternImageConfig, num_classes: int) -> None:
        super().__init__()
        channels = config.stage_channels[-1]
        embed = int(channels * config.class_scale)
        self.conv = nn.Conv2d(channels, embed, 1, bias=False)
        self.norm = nn.BatchNorm2d(embed)
        self.act = build_activation(config.act_layer)
        self.fc = nn.Linear(embed, num_classes)
        start_linear(self.fc)

    def forward(
        self,
        maps: Sequence[Tensor],  # 1 x (B, C, H, W)
    ) -> Tensor:  # (B, K) logits
        """Classifies the last map."""
        x = self.act(self.norm(self.conv(maps[-1])))
        return self.fc(x.mean((2, 3)))


class AttentionPooling(nn.Module):
    """Attention of one query, the mean token, over all tokens; no residual.

    The biases of query, key and value stand apart from their matrices, as in published weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.q_bias = nn.Parameter(torch.zeros(EMBED_DIM))
        self.k_bias = nn.Parameter(torch.zeros(EMBED_DIM))
        self.v_bias = nn.Parameter(torch.zeros(EMBED_DIM))
        self.q = nn.Linear(EMBED_DIM, EMBED_DIM, bias=False)
        self.k = nn.Linear(EMBED_DIM, EMBED_DIM, bias=False)
        self.v = nn.Linear(EMBED_DIM, EMBED_DIM, bias=False)
        self.proj = nn.Linear(EMBED_DIM, POOL_OUT_DIM)
        for linear in (self.q, self.k, self.v, self.proj):
            start_linear(linear)

    def forward(
        self,
        query: Tensor,  # (B, 1, D)
        key: Tensor,  # (B, T, D)
        value: Tensor,  # (B, T, D)
    ) -> Tensor:  # (B, POOL_OUT_DIM)
        """Pools the values by their keys' likeness to the query."""
        projected = (
            functional.linear(query, self.q.weight, self.q_bias),
            functional.linear(key, self.k.weight, self.k_bias),
            functional.linear(value, self.v.weight, self.v_bias),
        )
        heads = [rearrange(x, "b t (m d) -> b m t d", m=POOL_HEADS) for x in projected]
        pooled = functional.scaled_dot_product_attention(*heads)  # (B, M, 1, D/M)
        return self.proj(rearrange(pooled, "b m 1 d -> b (m d)"))


class PoolingBlock(nn.Module):
    """Norms of query, key and value before the attention pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_q = nn.LayerNorm(EMBED_DIM, eps=NORM_EPS)
        self.norm_k = nn.LayerNorm(EMBED_DIM, eps=NORM_EPS)
        self.norm_v = nn.LayerNorm(EMBED_DIM, eps=NORM_EPS)
        self.attention = AttentionPooling()

    def forward(
        self,
        tokens: Tensor,  # (B, T, D)
    ) -> Tensor:  # (B, POOL_OUT_DIM)
        """Pools all tokens for their mean."""
        query = self.norm_q(tokens.mean(1, keepdim=True))
        return self.attention(query, self.norm_k(tokens), self.norm_v(tokens))


class AttentionPoolingHead(nn.Module):
    """The last two stages as one set of tokens, pooled by attention (H and G).

    The head of the CLIP-style pre-training (arXiv 2211.05778, appendix; released code).
    """

    reads = 2

    def __init__(self, config: InternImageConfig, num_classes: int) -> None:
        super().__init__()
        fine, coarse = config.stage_channels[-2:]
        self.project_coarse = nn.Conv2d(coarse, EMBED_DIM * UPSCALE**2, 1)
        self.project_fine = nn.Conv2d(fine, EMBED_DIM, 1)
        self.pool = PoolingBlock()
        self.fc_norm = nn.LayerNorm(POOL_OUT_DIM, eps=NORM_EPS)
        self.fc = nn.Linear(POOL_OUT_DIM, num_classes)
        start_linear(self.fc)

    def forward(
        self,
        maps: Sequence[Tensor],  # (B, C/2, 2H, 2W), (B, C, H, W)
    ) -> Tensor:  # (B, K) logits
        """Classifies the last two maps together.

        Raises:
            ValueError: the finer map is not twice the coarser one.
        """
        fine, coarse = maps
        if tuple(fine.shape[2:]) != tuple(UPSCALE * size for size in coarse.shape[2:]):
            raise ValueError(
                "images must have sides whose second-last feature map is twice the last one; got "
                f"maps of {tuple(fine.shape[2:])} and {tuple(coarse.shape[2:])}. Pad the images "
                "to multiples of 32"
            )
        coarse = functional.pixel_shuffle(self.project_coarse(coarse), UPSCALE)
        tokens = rearrange(coarse + self.project_fine(fine), "b d h w -> b (h w) d")
        return self.fc(self.fc_norm(self.pool(tokens)))


class InternImageClassifier(nn.Module):
    """Backbone and classification head; ``config.classification_head`` says which.

    Args:
        config: the variant; ``classification_config(name)`` for a published one. Its
            ``out_indices`` are set to what the head reads.
        num_classes: K: 1000 for ImageNet-1K, 21841 for ImageNet-22K weights.
    """

    def __init__(self, config: InternImageConfig, num_classes: int = 1000) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be positive; got {num_classes}")
        attends = config.classification_head == "attention_pooling"
        head = AttentionPoolingHead if attends else ConvHead
        stages = len(config.depths)
        out_indices = tuple(range(stages - head.reads, stages))
        self.backbone = InternImage(replace(config, out_indices=out_indices))
        self.head = head(config, num_classes)

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> Tensor:  # (B, K) logits
        """Class logits; the attention-pooling head takes sides that are multiples of 32 only."""
        return self.head(self.backbone(images))
