"""Cascade Mask R-CNN with InternImage-XL, trained for 36 epochs of COCO."""

from bevstack.config.published_detection2d import cascade_mask_rcnn

CONFIG = cascade_mask_rcnn("cascade_mask_rcnn_internimage_xl_3x", "internimage_xl", epochs=36)
