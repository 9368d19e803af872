"""Drives with injected faults, on which the trust in sectors is fitted and measured."""
