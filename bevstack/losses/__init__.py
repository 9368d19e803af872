"""Matching and losses."""

from bevstack.losses.criterion import Criterion, Losses

__all__ = ["Criterion", "Losses"]
