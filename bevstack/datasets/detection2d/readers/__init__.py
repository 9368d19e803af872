"""Readers of published data sets of objects in pictures, besides those in COCO's format."""
