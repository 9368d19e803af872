"""``tiny_cpu_t4`` with traffic lights and signs; starts from its packaged weights.

The boxes and the backbone keep their weights: a step trains the traffic head alone.
"""

from dataclasses import replace

from bevstack.config import TrafficConfig
from bevstack.configs.tiny_cpu_t4 import CONFIG as T4

CONFIG = replace(
    T4,
    name="tiny_cpu_t4_traffic",
    traffic=TrafficConfig(
        train_backbone=False,
        samples=4,
        pixel_channels=16,
        speed_limits_kmh=(20, 30, 40, 50, 60, 70, 80),
    ),
    training=replace(
        T4.training,
        num_steps=9_000,
        perspective_steps=0,
        batch_size=4,
        learning_rate=1e-3,
        warmup_steps=100,
        gradient_clip=10.0,
        sampling="shuffle",
        evaluate_every=1_500,
        checkpoint_every=250,
    ),
)
