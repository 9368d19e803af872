"""Mask R-CNN with InternImage-S, trained for 12 epochs of COCO."""

from bevstack.config.published_detection2d import mask_rcnn

CONFIG = mask_rcnn("mask_rcnn_internimage_s_1x", "internimage_s", epochs=12)
