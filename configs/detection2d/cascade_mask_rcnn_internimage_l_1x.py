"""Cascade Mask R-CNN with InternImage-L, trained for 12 epochs of COCO."""

from bevstack.config.published_detection2d import cascade_mask_rcnn

CONFIG = cascade_mask_rcnn("cascade_mask_rcnn_internimage_l_1x", "internimage_l", epochs=12)
