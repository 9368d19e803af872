"""Mask R-CNN with InternImage-T, trained for 12 epochs of COCO."""

from bevstack.config.published_detection2d import mask_rcnn

CONFIG = mask_rcnn("mask_rcnn_internimage_t_1x", "internimage_t", epochs=12)
