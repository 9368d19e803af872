"""Detection and instance segmentation in single pictures, on the backbones of the 3D detector."""
