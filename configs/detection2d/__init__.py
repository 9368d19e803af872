"""Packaged detectors for single pictures: boxes and masks on InternImage."""
