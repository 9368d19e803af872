"""Small configurations, rigs and batches with an unequal number for every axis."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bevstack.config import (
    BEVEncoderConfig,
    Config,
    DecoderConfig,
    FPNConfig,
    InternImageConfig,
)
from bevstack.geometry import BEVGrid, CameraRig
from bevstack.types import Annotations, Batch, Boxes3D

CAM_AXES = ((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))  # columns x right, y down, z ahead


def small_config(dropout: float = 0.0) -> Config:
    return Config(
        name="small",
        class_names=("car", "pedestrian", "truck"),
        grid=BEVGrid(x_range_m=(-20, 20), y_range_m=(-15, 15), shape=(7, 11)),
        backbone=InternImageConfig(
            channels=8, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8), drop_path_rate=0.0
        ),
        fpn=FPNConfig(in_stages=(1, 3), num_outputs=3, channels=24),
        encoder=BEVEncoderConfig(
            num_layers=2,
            num_heads=4,
            feedforward_channels=40,
            dropout=dropout,
            num_heights=3,
            cross_points=6,
            num_camera_embeddings=5,
        ),
        decoder=DecoderConfig(
            num_layers=2,
            num_heads=3,
            feedforward_channels=36,
            dropout=dropout,
            num_queries=13,
            max_detections=17,
        ),
    )


def ring_rig(
    batch: int, cameras: int, image_size: tuple[int, int], *, seed: int = 0
) -> CameraRig:  # leading axes (B, 1)
    """Return cameras in a ring, with different yaw and height in each sample."""
    generator = torch.Generator().manual_seed(seed)
    height, width = image_size
    poses = torch.eye(4, dtype=torch.float64).repeat(batch, 1, cameras, 1, 1)
    for b in range(batch):
        for n in range(cameras):
            yaw = 2 * math.pi * n / cameras + float(torch.rand((), generator=generator))
            cos, sin = math.cos(yaw), math.sin(yaw)
            heading = torch.tensor(((cos, -sin, 0.0), (sin, cos, 0.0), (0.0, 0.0, 1.0)))
            poses[b, 0, n, :3, :3] = (heading @ torch.tensor(CAM_AXES)).double()
            poses[b, 0, n, :3, 3] = torch.tensor((cos, sin, 1.4 + 0.1 * b), dtype=torch.float64)
    # the axes were multiplied in float32: make them orthonormal to float64 again
    left, _, right = torch.linalg.svd(poses[..., :3, :3])
    poses[..., :3, :3] = left @ right
    intrinsics = torch.tensor(
        ((0.6 * width, 0.0, width / 2), (0.0, 0.6 * width, height / 2), (0.0, 0.0, 1.0)),
        dtype=torch.float64,
    )
    return CameraRig(
        intrinsics.repeat(batch, 1, cameras, 1, 1),
        poses,
        torch.tensor(image_size).repeat(batch, 1, cameras, 1),
        torch.ones(batch, 1, cameras, dtype=torch.bool),
    )


def make_batch(
    batch: int = 2,
    cameras: int = 3,
    *,
    image_size: tuple[int, int] = (50, 71),
    padded_size: tuple[int, int] = (64, 96),
    seed: int = 0,
) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(batch, 1, cameras, 3, *padded_size)
    height, width = image_size
    images[..., :height, :width] = torch.randn(
        batch, 1, cameras, 3, height, width, generator=generator
    )
    return Batch(
        images,
        ring_rig(batch, cameras, image_size, seed=seed),
        torch.ones(batch, 1, dtype=torch.bool),
        torch.stack([torch.arange(cameras).roll(b) for b in range(batch)]),
        torch.eye(4, dtype=torch.float64).repeat(batch, 1, 1, 1),
        torch.zeros(batch, 1, dtype=torch.int64),
        tuple(f"sample-{b}" for b in range(batch)),
        ("scene",) * batch,
    )


def make_annotations(count: int, classes: int, *, seed: int = 0, spread_m: float = 10.0):
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    boxes = Boxes3D(
        (uniform(count, 3) - 0.5) * torch.tensor((spread_m, spread_m, 2.0)),
        uniform(count, 3) * 3 + 0.5,
        (uniform(count) - 0.5) * 2 * math.pi,
        (uniform(count, 2) - 0.5) * 8,
    )
    labels = torch.randint(0, classes, (count,), generator=generator)
    return Annotations(boxes, labels, torch.ones(count, dtype=torch.int64))


def randomise(module: nn.Module, *, seed: int = 0, scale: float = 0.3) -> nn.Module:
    """Add noise to all parameters, so that none is zero, and switch to evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(scale * noise.to(parameter.dtype))
    return module.eval()
