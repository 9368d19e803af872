"""Packaged models that label each pixel of a picture: UperNet and SegFormer on InternImage."""
