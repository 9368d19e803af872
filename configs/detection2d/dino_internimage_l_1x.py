"""DINO with InternImage-L, trained for 12 epochs of COCO; boxes without masks."""

from bevstack.config.published_detection2d import dino

CONFIG = dino("dino_internimage_l_1x", "internimage_l", detections=300)
