"""Detector with all stages that trains on two CPU cores: four frames, perspective head, proposals.

Images have a quarter of the published width and height; pixel lengths in the perspective head are
a fifth of the published ones. Depth is predicted relative to the ground, objects with a single
lidar or radar point are trained on, and every norm uses the statistics of one image.
"""

from dataclasses import replace

from bevstack.config import AugmentationConfig, PerspectiveConfig, ProposalConfig, TemporalConfig
from bevstack.config.perspective import SmallImagePreset
from bevstack.configs.tiny_cpu import CONFIG as T1

CONFIG = replace(
    T1,
    name="tiny_cpu_t4",
    frames=(-3, -2, -1, 0),
    images=replace(T1.images, size=(160, 400)),
    backbone=replace(
        T1.backbone, channels=32, groups=(2, 4, 8, 16), norm_layer="GN", act_layer="ReLU"
    ),
    temporal=TemporalConfig(num_fusion=2, inter_channels=64, norm="GN", norm_groups=8),
    decoder=replace(T1.decoder, num_queries=100, num_groups=3, max_detections=100, nms_iou=0.1),
    perspective=PerspectiveConfig(
        strides=(8, 16, 32),
        num_convs=2,
        norm="GN",
        norm_groups=8,
        focal_factor_px=100.0,
        mean_depth_m=(44.9, 16.0, 9.0),
        std_depth_m=(24.3, 8.0, 6.0),
        level_bounds_px=(16, 32),
        min_points=1,
        class_weight=2.0,
        box3d_weight=0.5,
        score_threshold=0.02,
        max_candidates=200,
        nms_iou=0.4,
        max_detections=50,
        small_images=SmallImagePreset(),
    ),
    proposals=ProposalConfig(max_per_view=30, max_proposals=100, start="box"),
    loss=replace(T1.loss, code_weights=(1, 1, 1, 1, 1, 1, 4, 4, 1, 1)),
    augmentation=AugmentationConfig(mirror_scene=True, photometric=True),
    training=replace(
        T1.training,
        num_steps=7200,
        perspective_steps=2700,
        batch_size=2,
        backbone_multiplier=2.5,
        warmup_steps=100,
        ema_decay=0.998,
        sampling="class_balanced",
        evaluate_every=2400,
        num_workers=1,
    ),
)
