"""Experiments on trained detectors: judging against controls, studies of equal budgets."""
