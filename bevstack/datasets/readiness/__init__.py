"""Checks of a dataset on disk: archives, files, poses, calibrations, annotations."""
