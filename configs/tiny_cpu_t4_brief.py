"""The first stage of `tiny_cpu_t4` for minutes of training: small steps, boxes of every class read.

A young detector is unsure of rare classes and misplaces what it finds: of each class many boxes
are read, and those that overlap stand beside each other. Steps take about 0.4 s of one core.
"""

from dataclasses import replace

from bevstack.configs.tiny_cpu_t4 import CONFIG as T4

CONFIG = replace(
    T4,
    name="tiny_cpu_t4_brief",
    images=replace(T4.images, size=(128, 320)),
    perspective=replace(T4.perspective, score_threshold=0.003, max_candidates=600, nms_iou=0.6),
    proposals=replace(
        T4.proposals, max_per_view=300, max_proposals=500, max_per_class=50, bev_nms_iou=0.6
    ),
    decoder=replace(T4.decoder, max_detections=500, nms_iou=0.5),
    training=replace(
        T4.training,
        num_steps=1500,
        perspective_steps=1500,
        batch_size=1,
        warmup_steps=50,
        ema_decay=0.99,
        evaluate_every=0,
    ),
)
