"""Checks of a data set on disk: archives, files, poses, calibrations, annotations."""
