"""Costs of detectors and backbones: parameters, multiply-accumulates, memory, training plans."""
