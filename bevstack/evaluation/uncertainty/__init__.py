"""Uncertainty of boxes against ground truth: fit on one split, coverage on another."""
