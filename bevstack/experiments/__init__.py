"""Experiments on trained detectors: comparison with controls, and studies of equal budgets."""
