"""Image classification with the backbones: heads and whole classifiers."""
