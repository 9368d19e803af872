"""Names of the parameters of published detectors for single pictures, and of ours."""

from __future__ import annotations

from bevstack.interop.internimage_names import RENAMES
from bevstack.interop.public_weights import Rename

_BOX = "roi_head.bbox_head."
_MASK = "roi_head.mask_head."
# Moving averages beside the weights, under names with underscores in place of dots. The plain names
# hold the averages already: the released training swaps both before it writes a file.
AVERAGES = ("ema_*",)

BACKBONE_ROWS = tuple(
    Rename(f"backbone.{published}", ours)
    for published, ours in RENAMES
    if ours.startswith("backbone.")
)
_PROPOSAL_ROWS = (
    Rename("neck.lateral_convs.{i}.conv.{p}", "neck.lateral_convs.{i}.{p}"),
    Rename("neck.fpn_convs.{i}.conv.{p}", "neck.output_convs.{i}.{p}"),
    Rename("rpn_head.rpn_conv.{p}", "rpn.conv.{p}"),
    Rename("rpn_head.rpn_cls.{p}", "rpn.logits.{p}"),
    Rename("rpn_head.rpn_reg.{p}", "rpn.codes.{p}"),
)


def _stage_rows(published: str, ours: str) -> tuple[Rename, ...]:
    """Return rows of a stage.

    Args:
        published: number of the stage with a dot; empty if there is only one.
        ours: the same, never empty.
    """
    box, mask = f"{_BOX}{published}", f"{_MASK}{published}"
    return (
        Rename(box + "shared_convs.{j}.conv.{p}", f"stages.{ours}box_head.convs." + "{j}.{p}"),
        Rename(box + "shared_convs.{j}.bn.{p}", f"stages.{ours}box_head.norms." + "{j}.{p}"),
        Rename(box + "shared_fcs.{j}.{p}", f"stages.{ours}box_head.linear." + "{j}.{p}"),
        Rename(box + "fc_cls.{p}", f"stages.{ours}box_head.logits." + "{p}"),
        Rename(box + "fc_reg.{p}", f"stages.{ours}box_head.codes." + "{p}"),
        Rename(mask + "convs.{j}.conv.{p}", f"stages.{ours}mask_head.convs." + "{j}.{p}"),
        Rename(mask + "upsample.{p}", f"stages.{ours}mask_head.upsample." + "{p}"),
        Rename(mask + "conv_logits.{p}", f"stages.{ours}mask_head.logits." + "{p}"),
    )


REGION_ROWS = (
    *BACKBONE_ROWS,
    *_PROPOSAL_ROWS,
    *_stage_rows("", "0."),
    *_stage_rows("{i}.", "{i}."),
)
