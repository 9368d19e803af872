"""Mask R-CNN with InternImage-B, trained for 36 epochs of COCO."""

from bevstack.config.published_detection2d import mask_rcnn

CONFIG = mask_rcnn("mask_rcnn_internimage_b_3x", "internimage_b", epochs=36)
