"""Configuration of InternImage (arXiv 2211.05778): every flag, and the seven published sizes.

Each size has two settings, which differ in drop path and in the initial value of the layer scales:
``classification_config`` is the setting of the ImageNet weights, ``detection_config`` that of the
published detectors and segmenters. ``INTERNIMAGE_VARIANTS`` holds the detection settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from bevstack.config.checks import check
from bevstack.config.limits import MAX_STAGES, check_section

NORM_LAYERS = ("LN", "BN", "SyncBN", "GN")
ACT_LAYERS = ("GELU", "ReLU", "SiLU")
DROP_PATH_TYPES = ("linear", "uniform")
CLASSIFICATION_HEADS = ("conv", "attention_pooling")


@dataclass(frozen=True, kw_only=True)
class InternImageConfig:
    """Configuration of one InternImage; defaults are those of InternImage-T (table 1).

    Each comment ends with the source of the value: "Paper" is arXiv 2211.05778; "Released code" and
    "Released configurations" are the authors', used if the paper gives no value.
    """

    channels: int = 64  # of the first stage; each further stage has twice as many. Paper, table 1
    depths: tuple[int, ...] = (4, 4, 18, 4)  # layers of each stage. Paper, table 1
    groups: tuple[int, ...] = (4, 8, 16, 32)  # DCNv3 groups of each stage. Paper, table 1
    mlp_ratio: float = 4.0  # hidden / outer channels of the MLP. Paper, section 3.2
    # Norm of the stem, downsampling and offset branch: "LN" or "BN" as in the released code,
    # "SyncBN" with statistics over all processes, or "GN", which needs no batch. Small backbones
    # trained from random weights learn slowest with "LN".
    norm_layer: str = "LN"
    norm_groups: int = 8  # groups of "GN"; divides channels / 2. Own choice
    act_layer: str = "GELU"  # "GELU" (exact), "ReLU" or "SiLU". Released code
    drop_path_rate: float = 0.1  # drop probability of the last layer. Released configurations
    drop_path_type: str = "linear"  # "linear" from 0 over all layers, or "uniform". Released code
    # Initial value of the per-channel scales of the residual branches. None: no scales. Released
    # configurations
    layer_scale: float | None = None
    # Factor on the offsets and on the kernel's base grid; 2 in L and XL. Released configurations
    offset_scale: float = 1.0
    # Normalise a branch's output instead of its input; in S to XL and G. Released configurations
    post_norm: bool = False
    # Normalise a branch's input and its output; in H. Released configurations
    res_post_norm: bool = False
    # Side of the offset branch's depthwise kernel, feature pixels; 5 in H and G. Released
    # configurations
    dw_kernel_size: int = 3
    # Blend the sampled value of DCNv3 with the unsampled one; in H and G. Released configurations
    center_feature_scale: bool = False
    # Layers of the third stage, counted from 0, that an extra LN follows. Released configurations
    level2_post_norm_block_ids: tuple[int, ...] = ()
    remove_center: bool = False  # sample 8 points, without the kernel's centre. Released code
    # "conv", or the "attention_pooling" (CLIP projector) of H and G. Released code
    classification_head: str = "conv"
    class_scale: float = 1.5  # channels of the conv head / the last stage's. Released code
    out_indices: tuple[int, ...] = (0, 1, 2, 3)  # returned stages; strides 4, 8, 16, 32
    # First stages whose weights are frozen; the stem is still trained. Released code
    frozen_stages: int = 0
    # Recompute each layer in the backward pass, to save memory. Released code
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_section("backbone", self)
        self._check_sizes()
        self._check_choices()
        self._check_norms()
        self._check_stages()

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Return the channels of every stage, returned or not."""
        return tuple(self.channels << stage for stage in range(len(self.depths)))

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Return the channels of each returned stage, in the order of ``out_indices``."""
        return tuple(self.stage_channels[stage] for stage in self.out_indices)

    @property
    def out_strides(self) -> tuple[int, ...]:
        """Return the stride of each returned stage in pixels, in the order of ``out_indices``."""
        return tuple(4 << stage for stage in self.out_indices)

    @property
    def drop_path_rates(self) -> tuple[float, ...]:
        """Return the drop probability of every layer, over all stages in order."""
        layers = sum(self.depths)
        if self.drop_path_type == "uniform":
            return (self.drop_path_rate,) * layers
        return tuple(self.drop_path_rate * layer / max(layers - 1, 1) for layer in range(layers))

    @property
    def stage_end_norm(self) -> bool:
        """Return True if each stage ends with an LN; else it returns the raw residual stream."""
        return not self.post_norm or self.center_feature_scale

    def _check_sizes(self) -> None:
        even = self.channels > 0 and self.channels % 2 == 0
        check("backbone.channels", even, "be even and positive", self.channels)
        check(
            "backbone.depths",
            0 < len(self.depths) <= MAX_STAGES and min(self.depths, default=0) > 0,
            f"be a positive number of layers for each of 1 to {MAX_STAGES} stages",
            self.depths,
        )
        check(
            "backbone.groups",
            len(self.groups) == len(self.depths),
            f"have one entry for each of the {len(self.depths)} depths",
            self.groups,
        )
        for stage, (groups, width) in enumerate(zip(self.groups, self.stage_channels, strict=True)):
            divides = groups > 0 and width % groups == 0
            requirement = f"divide the stage's {width} channels"
            check(f"backbone.groups[{stage}]", divides, requirement, groups)
        hidden = int(self.channels * self.mlp_ratio)
        check("backbone.mlp_ratio", hidden > 0, "give at least one hidden channel", self.mlp_ratio)
        check("backbone.class_scale", self.class_scale > 0, "be positive", self.class_scale)
        odd = self.dw_kernel_size > 0 and self.dw_kernel_size % 2 == 1
        requirement = "be odd, so that the map keeps its size"
        check("backbone.dw_kernel_size", odd, requirement, self.dw_kernel_size)

    def _check_choices(self) -> None:
        choices = {
            "norm_layer": NORM_LAYERS,
            "act_layer": ACT_LAYERS,
            "drop_path_type": DROP_PATH_TYPES,
            "classification_head": CLASSIFICATION_HEADS,
        }
        for name, allowed in choices.items():
            got = getattr(self, name)
            check(f"backbone.{name}", got in allowed, f"be one of {allowed}", got)
        rate = self.drop_path_rate
        check("backbone.drop_path_rate", 0.0 <= rate < 1.0, "lie in [0, 1)", rate)

    def _check_norms(self) -> None:
        check(
            "backbone.post_norm",
            not (self.post_norm and self.res_post_norm),
            "be False with res_post_norm, which already normalises each branch's output",
            self.post_norm,
        )
        check(
            "backbone.layer_scale",
            self.layer_scale is None or not self.res_post_norm,
            "be None with res_post_norm, because with layer scales the released code ignores "
            "res_post_norm (set it to False to compute the same)",
            self.layer_scale,
        )
        narrowest = self.channels // 2  # channels of the stem's first convolution
        divides = self.norm_groups > 0 and narrowest % self.norm_groups == 0
        requirement = f"divide the stem's {narrowest} channels for norm_layer 'GN'"
        fits = divides or self.norm_layer != "GN"
        check("backbone.norm_groups", fits, requirement, self.norm_groups)
        if self.classification_head == "attention_pooling":
            requirement = "be 'LN' for the attention-pooling head, whose norms act on tokens"
            check("backbone.norm_layer", self.norm_layer == "LN", requirement, self.norm_layer)
            requirement = "give at least two stages, which the attention-pooling head reads"
            check("backbone.depths", len(self.depths) > 1, requirement, self.depths)

    def _check_stages(self) -> None:
        stages = len(self.depths)
        ids = self.level2_post_norm_block_ids
        depth = self.depths[2] if stages > 2 else 0
        check(
            "backbone.level2_post_norm_block_ids",
            list(ids) == sorted(set(ids)) and all(0 <= block < depth for block in ids),
            f"be increasing layer indices of the third stage, in [0, {depth})",
            ids,
        )
        out = self.out_indices
        check(
            "backbone.out_indices",
            len(out) > 0 and list(out) == sorted(set(out)) and 0 <= out[0] <= out[-1] < stages,
            f"be increasing stage indices in [0, {stages})",
            out,
        )
        requirement = f"lie in [0, {stages}], the number of stages"
        check(
            "backbone.frozen_stages",
            0 <= self.frozen_stages <= stages,
            requirement,
            self.frozen_stages,
        )


_T = InternImageConfig(drop_path_rate=0.2, layer_scale=1.0)
_S = replace(
    _T,
    channels=80,
    depths=(4, 4, 21, 4),
    groups=(5, 10, 20, 40),
    drop_path_rate=0.3,
    post_norm=True,
)
_B = replace(_S, channels=112, groups=(7, 14, 28, 56), drop_path_rate=0.4)
_L = replace(_B, channels=160, depths=(5, 5, 22, 5), groups=(10, 20, 40, 80), offset_scale=2.0)
_XL = replace(_L, channels=192, depths=(5, 5, 24, 5), groups=(12, 24, 48, 96))
_H = InternImageConfig(
    channels=320,
    depths=(6, 6, 32, 6),
    groups=(10, 20, 40, 80),
    drop_path_rate=0.5,
    res_post_norm=True,
    dw_kernel_size=5,
    center_feature_scale=True,
    level2_post_norm_block_ids=(5, 11, 17, 23, 29),
    classification_head="attention_pooling",
)
_G = replace(
    _H,
    channels=512,
    depths=(2, 2, 48, 4),
    groups=(16, 32, 64, 128),
    post_norm=True,
    res_post_norm=False,
    level2_post_norm_block_ids=(5, 11, 17, 23, 29, 35, 41, 47),
)

INTERNIMAGE_VARIANTS: Mapping[str, InternImageConfig] = MappingProxyType(
    {
        "internimage_t": _T,
        "internimage_s": _S,
        "internimage_b": _B,
        "internimage_l": _L,
        "internimage_xl": _XL,
        "internimage_h": _H,
        "internimage_g": _G,
    }
)

# Drop path of the released ImageNet-1K configurations. L, XL, H and G are fine-tuned there after
# pre-training on larger data.
_CLASSIFICATION_DROP_PATH: Mapping[str, float] = MappingProxyType(
    {
        "internimage_t": 0.1,
        "internimage_s": 0.4,
        "internimage_b": 0.5,
        "internimage_l": 0.1,
        "internimage_xl": 0.2,
        "internimage_h": 0.2,
        "internimage_g": 0.4,
    }
)


def detection_config(name: str) -> InternImageConfig:
    """Return the setting of a size in the released detectors and segmenters.

    T to XL have layer scales that start at 1. The ImageNet weights of T have no layer scales, so a
    detector that starts from them starts with scales of 1. XL's drop path is that of the 12-epoch
    schedule; the 36-epoch schedule uses 0.6.

    Raises:
        ValueError: ``name`` is not a key of ``INTERNIMAGE_VARIANTS``.
    """
    if name not in INTERNIMAGE_VARIANTS:
        names = ", ".join(INTERNIMAGE_VARIANTS)
        raise ValueError(f"InternImage variant must be one of {names}; got {name!r}")
    return INTERNIMAGE_VARIANTS[name]


def classification_config(name: str) -> InternImageConfig:
    """Return the setting of a size for ImageNet-1K classification.

    T, H and G have no layer scales; those of S to XL start at 1e-5.

    Raises:
        ValueError: ``name`` is not a key of ``INTERNIMAGE_VARIANTS``.
    """
    config = detection_config(name)
    return replace(
        config,
        layer_scale=1e-5 if config.post_norm and config.layer_scale is not None else None,
        drop_path_rate=_CLASSIFICATION_DROP_PATH[name],
    )
