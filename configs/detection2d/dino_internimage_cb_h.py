"""DINO with two InternImage-H, trained on Objects365 and then on COCO; boxes without masks."""

from bevstack.config.published_detection2d import large_dino

CONFIG = large_dino("dino_internimage_cb_h", "internimage_h", composite=True)
