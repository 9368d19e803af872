"""Baselines without a network, which a detector must beat."""
