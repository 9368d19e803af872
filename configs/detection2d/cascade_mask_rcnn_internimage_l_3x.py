"""Cascade Mask R-CNN with InternImage-L, trained for 36 epochs of COCO."""

from bevstack.config.published_detection2d import cascade_mask_rcnn

CONFIG = cascade_mask_rcnn("cascade_mask_rcnn_internimage_l_3x", "internimage_l", epochs=36)
