"""First stage of `tiny_cpu_t4` for minutes of training, with single samples and smaller images.

A detector that is trained briefly gives rare classes low scores and misplaces its boxes. Therefore
many boxes of each class are kept, and overlapping boxes are suppressed less. A step takes about
0.4 s on one core.
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
