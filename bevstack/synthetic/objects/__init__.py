"""Shapes and appearance of vehicles, people and small objects."""
