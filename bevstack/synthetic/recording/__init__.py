"""Cameras, labels and tables of a scene."""
