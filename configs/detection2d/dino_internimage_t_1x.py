"""DINO with InternImage-T, trained for 12 epochs of COCO; boxes without masks."""

from bevstack.config.published_detection2d import dino

CONFIG = dino("dino_internimage_t_1x", "internimage_t", detections=100)
