"""Viewer: moments of a drive as plain arrays, and what shows them."""
