"""Image backbones and the feature pyramid."""
