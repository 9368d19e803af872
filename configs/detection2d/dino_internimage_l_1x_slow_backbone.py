"""DINO with InternImage-L, whose backbone trains at 0.1 times the rate, for 12 epochs of COCO."""

from bevstack.config.published_detection2d import slow_backbone_dino

CONFIG = slow_backbone_dino("dino_internimage_l_1x_slow_backbone", "internimage_l")
