"""Boxes of results and truth, from the world frame of the format into the ego frame."""

from __future__ import annotations

import numpy as np

from bevstack.evaluation.detection3d.box_errors import rotation_matrices
from bevstack.evaluation.detection3d.columns import BoxColumns
from bevstack.viewer.moment import NO_IDENTITY, BoxArrays, Flags, Floats, Indices


def boxes_in_ego(
    columns: BoxColumns,
    world_from_ego: Floats,  # (4, 4)
    counted: Flags,  # (D,)
    identity: Indices | None = None,  # (D,)
) -> BoxArrays:
    """Return boxes of one sample in its ego frame; sizes become (length, width, height)."""
    rotation, place = world_from_ego[:3, :3], world_from_ego[:3, 3]
    heading = rotation_matrices(columns.rotation)[:, :, 0] @ rotation if len(columns) else None
    count = len(columns)
    return BoxArrays(
        center_m=(columns.translation - place) @ rotation,
        size_m=columns.size[:, [1, 0, 2]],
        yaw_rad=np.zeros(0) if heading is None else np.arctan2(heading[:, 1], heading[:, 0]),
        velocity_mps=columns.velocity @ rotation[:2, :2],
        label=columns.label.astype(np.int64),
        identity=np.full(count, NO_IDENTITY, np.int64) if identity is None else identity,
        counted=counted,
    )
