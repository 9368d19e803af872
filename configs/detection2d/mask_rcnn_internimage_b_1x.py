"""Mask R-CNN with InternImage-B, trained for 12 epochs of COCO."""

from bevstack.config.published_detection2d import mask_rcnn

CONFIG = mask_rcnn("mask_rcnn_internimage_b_1x", "internimage_b", epochs=12)
