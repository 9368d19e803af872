"""Scores of boxes and masks in single pictures, and the result files of COCO."""
