"""Traffic lights in real single pictures; starts from weights of ``tiny_cpu_t4_traffic``.

The whole picture is seen, and a step trains on windows of large ones. The backbone learns too, as
these weights hold no boxes.
"""

from dataclasses import replace

from bevstack.configs.tiny_cpu_t4_traffic import CONFIG as TRAFFIC

assert TRAFFIC.traffic is not None
CONFIG = replace(
    TRAFFIC,
    name="traffic_lights_real",
    traffic=replace(
        TRAFFIC.traffic,
        rows=(0.0, 1.0),
        train_backbone=True,
        window_px=416,
        scale=(0.5, 1.4),
        min_height_px=4.0,
    ),
    training=replace(
        TRAFFIC.training,
        num_steps=3_000,
        learning_rate=5e-4,
        backbone_multiplier=0.3,
        schedule="cosine",
        evaluate_every=500,
        checkpoint_every=100,
    ),
)
