"""Spreads of the perspective head's outputs at the positive locations.

Letters: M positive rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bevstack.config.perspective import YAW, PerspectiveConfig
from bevstack.losses.perspective_targets import PerspectiveTargets
from bevstack.losses.spread import spreads
from bevstack.models.perspective.decode import decode_boxes, raw_boxes_at
from bevstack.models.perspective.head import PerspectiveOutput

PREFIX = "perspective."


@torch.no_grad()
def perspective_spreads(
    output: PerspectiveOutput, targets: PerspectiveTargets, config: PerspectiveConfig
) -> dict[str, Tensor]:
    """Return the spread of each output behind its activation, at the positives' true classes."""
    rows = (targets.image, targets.location)
    at = (targets.image, targets.location, targets.label)
    raw = raw_boxes_at(output, *at)
    cam_from_image = targets.boxes.cam_from_image
    place = output.locations_px[targets.location]
    depth_m = decode_boxes(raw, targets.label, place, cam_from_image, config).depth_m
    is_yaw = config.changes.attitude == YAW
    parts = ("cos_yaw", "sin_yaw") if is_yaw else ("w", "x", "y", "z")
    attitude = raw.quaternion[:, : len(parts)]
    attributes = tuple(str(index) for index in range(config.num_attributes))
    return {
        **spreads(PREFIX + "class", output.logits[at]),
        **spreads(PREFIX + "sides", output.ltrb_px[rows], ("left", "top", "right", "bottom")),
        **spreads(PREFIX + "centerness", output.centerness[rows]),
        **spreads(PREFIX + "attitude", attitude, parts),
        **spreads(PREFIX + "center_offset", raw.center_offset_px, ("u", "v")),
        **spreads(PREFIX + "depth", depth_m),
        **spreads(PREFIX + "size", raw.size.tanh(), ("length", "width", "height")),
        **spreads(PREFIX + "confidence", output.confidence[at]),
        **spreads(PREFIX + "attribute", output.attributes[rows], attributes),
        **spreads(PREFIX + "speed", output.speed_mps[rows]),
    }
