"""Models of uncertainty with a different value in every place, so that a mix-up shows."""

from __future__ import annotations

import torch

from bevstack.config.tracking import TrackingConfig
from bevstack.uncertainty.calibration import GROUPS, BoxCalibration
from bevstack.uncertainty.model import DETECTION_SPREADS, FEATURES, TRACK_SPREADS, BoxModel


def odd_model(names: tuple[str, ...], seed: int) -> BoxModel:
    """Return a model whose values all differ."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random, dtype=torch.float64)

    groups = len(GROUPS)
    return BoxModel(
        spreads={name: draw(groups + len(FEATURES)) - 0.7 for name in names},
        existence=draw(2, groups, 2) + 0.2,
        flip=draw(groups),
        radii=draw(groups, 5, 2) + 0.5,
    )


def odd_calibration(tracking: TrackingConfig | None = None) -> BoxCalibration:
    """Return a calibration whose values all differ."""
    return BoxCalibration(
        groups=GROUPS,
        detections=odd_model(DETECTION_SPREADS, 1),
        tracks=odd_model(TRACK_SPREADS, 2),
        tracking=tracking or TrackingConfig(),
        fitted_on={"split": "synth_val", "samples": 3},
    )
