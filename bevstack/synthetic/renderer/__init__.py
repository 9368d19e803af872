"""Renderer: primitives, ray casting, patterns, shading and weather."""
