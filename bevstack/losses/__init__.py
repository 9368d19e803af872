"""Matching of predictions to true boxes, and training losses."""

from bevstack.losses.criterion import Criterion, Losses
from bevstack.losses.detector_loss import DetectorCriterion

__all__ = ["Criterion", "DetectorCriterion", "Losses"]
