"""Uncertainty of boxes: an explicit model with few parameters, fitted on held-out scenes."""

from bevstack.uncertainty.calibration import BoxCalibration
from bevstack.uncertainty.model import BoxModel

__all__ = ["BoxCalibration", "BoxModel"]
