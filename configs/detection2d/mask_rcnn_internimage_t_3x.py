"""Mask R-CNN with InternImage-T, trained for 36 epochs of COCO."""

from bevstack.config.published_detection2d import mask_rcnn

CONFIG = mask_rcnn("mask_rcnn_internimage_t_3x", "internimage_t", epochs=36)
