"""Frames besides the current one: memory, alignment, fusion."""
