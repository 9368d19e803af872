"""Temporal fusion: past frames, memory, alignment, fused BEV maps."""
