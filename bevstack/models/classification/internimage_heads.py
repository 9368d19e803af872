"""InternImage as an image classifier, with either of the two released heads.

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
from bevstack.models.backbones.internimage import InternImage, init_linear
from bevstack.models.layers.norms import NORM_EPS

# All from the released code.
EMBED_DIM = 1024  # of the pooled tokens
POOL_HEADS = 16
POOL_OUT_DIM = 768
UPSCALE = 2  # of the last stage, to the resolution of the second-last


class ConvHead(nn.Module):
    """Head of T to XL: 1x1 convolution, batch norm, activation, mean over the map, linear."""

    num_stages = 1  # used by the head, counted from the last

    def __init__(self, config: InternImageConfig, num_classes: int) -> None:
        super().__init__()
        channels = config.stage_channels[-1]
        embed = int(channels * config.class_scale)
        self.conv = nn.Conv2d(channels, embed, 1, bias=False)
        self.norm = nn.BatchNorm2d(embed)
        self.act = build_activation(config.act_layer)
        self.fc = nn.Linear(embed, num_classes)
        init_linear(self.fc)

    def forward(
        self,
        maps: Sequence[Tensor],  # 1 x (B, C, H, W)
    ) -> Tensor:  # (B, K) logits
        """Classify the last map."""
        x = self.act(self.norm(self.conv(maps[-1])))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class AttentionPooling(nn.Module):
    """Attention of one query, the mean token, to all tokens; no residual.

    The biases of query, key and value are separate parameters, as in published weights.
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
            init_linear(linear)

    def forward(
        self,
        query: Tensor,  # (B, 1, D)
        key: Tensor,  # (B, T, D)
        value: Tensor,  # (B, T, D)
    ) -> Tensor:  # (B, POOL_OUT_DIM)
        """Return the projected mean of the values, weighted by attention to their keys."""
        projected = (
            functional.linear(query, self.q.weight, self.q_bias),
            functional.linear(key, self.k.weight, self.k_bias),
            functional.linear(value, self.v.weight, self.v_bias),
        )
        q, k, v = (rearrange(x, "b t (m d) -> b m t d", m=POOL_HEADS) for x in projected)
        pooled = functional.scaled_dot_product_attention(q, k, v)  # (B, M, 1, D/M)
        output: Tensor = self.proj(rearrange(pooled, "b m 1 d -> b (m d)"))
        return output


class PoolingBlock(nn.Module):
    """Attention pooling with norms of query, key and value before it."""

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
        """Pool all tokens, with their mean as the query."""
        query = self.norm_q(tokens.mean(1, keepdim=True))
        pooled: Tensor = self.attention(query, self.norm_k(tokens), self.norm_v(tokens))
        return pooled


class AttentionPoolingHead(nn.Module):
    """Head of H and G: the last two stages as one set of tokens, pooled by attention.

    It is the head of the CLIP-style pre-training (arXiv 2211.05778, appendix; released code).
    """

    num_stages = 2

    def __init__(self, config: InternImageConfig, num_classes: int) -> None:
        super().__init__()
        fine, coarse = config.stage_channels[-2:]
        self.project_coarse = nn.Conv2d(coarse, EMBED_DIM * UPSCALE**2, 1)
        self.project_fine = nn.Conv2d(fine, EMBED_DIM, 1)
        self.pool = PoolingBlock()
        self.fc_norm = nn.LayerNorm(POOL_OUT_DIM, eps=NORM_EPS)
        self.fc = nn.Linear(POOL_OUT_DIM, num_classes)
        init_linear(self.fc)

    def forward(
        self,
        maps: Sequence[Tensor],  # (B, C/2, 2H, 2W), (B, C, H, W)
    ) -> Tensor:  # (B, K) logits
        """Classify the last two maps together.

        Raises:
            ValueError: the finer map does not have twice the height and width of the coarser one.
        """
        fine, coarse = maps
        if tuple(fine.shape[2:]) != tuple(UPSCALE * size for size in coarse.shape[2:]):
            raise ValueError(
                "images must have a size for which the second-last feature map is twice the last "
                f"one; got maps of {tuple(fine.shape[2:])} and {tuple(coarse.shape[2:])}: pad the "
                "images to multiples of 32"
            )
        coarse = functional.pixel_shuffle(self.project_coarse(coarse), UPSCALE)
        tokens = rearrange(coarse + self.project_fine(fine), "b d h w -> b (h w) d")
        logits: Tensor = self.fc(self.fc_norm(self.pool(tokens)))
        return logits


class InternImageClassifier(nn.Module):
    """Backbone and the classification head named in ``config.classification_head``.

    Args:
        config: the variant; ``classification_config(name)`` for a published one. Its
            ``out_indices`` are replaced by the stages that the head uses.
        num_classes: K: 1000 for ImageNet-1K, 21841 for ImageNet-22K weights.
    """

    def __init__(self, config: InternImageConfig, num_classes: int = 1000) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be positive; got {num_classes}")
        pooling = config.classification_head == "attention_pooling"
        head = AttentionPoolingHead if pooling else ConvHead
        stages = len(config.depths)
        out_indices = tuple(range(stages - head.num_stages, stages))
        self.backbone = InternImage(replace(config, out_indices=out_indices))
        self.head = head(config, num_classes)

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> Tensor:  # (B, K) logits
        """Return class logits.

        The attention-pooling head takes only images whose sides are multiples of 32.

        Raises:
            ValueError: the images' size does not fit the attention-pooling head.
        """
        logits: Tensor = self.head(self.backbone(images))
        return logits
