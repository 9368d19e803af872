"""Classification heads of the backbones."""
