"""Augmentation of clips in training: geometry, photometry, GridMask, mirrored scenes."""
