"""Detectors without a network, as lower bounds of what a score means."""
