"""Small versions of the packaged configurations, with the same stages and options, for tests."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from bevstack.config import Config, InternImageConfig, ResNetConfig
from bevstack.geometry import CameraRig
from bevstack.types import Annotations, Batch, Boxes3D, CameraAnnotations
from tests.models.small_models import ring_rig

IMAGE_SIZE = (64, 96)
CHANNELS = 32
CAMERAS = 6


def scaled_down(config: Config) -> Config:
    """Return the configuration with few channels, layers, queries and cells; the rest stays."""
    temporal, perspective = config.temporal, config.perspective
    if temporal is not None and temporal.inter_channels is not None:
        temporal = replace(temporal, inter_channels=CHANNELS)
    if perspective is not None:
        perspective = replace(perspective, num_convs=1, max_candidates=20)
    return replace(
        config,
        grid=replace(config.grid, shape=(8, 10)),
        images=replace(config.images, size=IMAGE_SIZE),
        backbone=small_backbone(config.backbone),
        fpn=replace(config.fpn, channels=CHANNELS),
        encoder=replace(config.encoder, num_layers=1, feedforward_channels=CHANNELS, pair_step=64),
        decoder=replace(config.decoder, num_layers=2, num_queries=9, feedforward_channels=CHANNELS),
        temporal=temporal,
        perspective=perspective,
    )


def small_backbone(config: InternImageConfig | ResNetConfig) -> InternImageConfig | ResNetConfig:
    if isinstance(config, ResNetConfig):
        return replace(config, base_channels=4)
    depths = tuple(min(depth, 2) for depth in config.depths)
    return replace(
        config,
        channels=8,
        depths=depths,
        groups=(1, 2, 4, 8),
        norm_groups=2,  # of "GN"; the first norm has 4 channels
        level2_post_norm_block_ids=tuple(i for i in config.level2_post_norm_block_ids if i < 2),
    )


def training_clips(config: Config, batch: int, *, seed: int = 0) -> Batch:
    """Return random clips of the configuration's frames, as the training loader does."""
    generator = torch.Generator().manual_seed(seed)
    frames = len(config.frames)
    rigs = [ring_rig(batch, CAMERAS, IMAGE_SIZE, seed=seed)[:, 0]] * frames
    poses = torch.eye(4, dtype=torch.float64).repeat(batch, frames, 1, 1)
    for slot, offset in enumerate(config.frames):
        poses[:, slot, 0, 3] = 2.0 * offset
        move = torch.eye(4, dtype=torch.float64)
        move[0, 3] = 2.0 * offset
        rigs[slot] = rigs[slot].moved(move.expand(batch, 4, 4))
    step_us = 500_000
    times = torch.tensor(config.frames)[None].expand(batch, -1) * step_us + 10_000_000
    classes = len(config.class_names)
    return Batch(
        images=torch.randn(batch, frames, CAMERAS, 3, *IMAGE_SIZE, generator=generator),
        rig=CameraRig.stack(rigs, dim=1),
        frame_valid=torch.ones(batch, frames, dtype=torch.bool),
        camera_slots=torch.arange(CAMERAS).expand(batch, -1),
        world_from_bev=poses,
        timestamp_us=times,
        sample_tokens=tuple(f"sample-{b}" for b in range(batch)),
        scene_tokens=("scene",) * batch,
        annotations=tuple(some_boxes(4, classes, generator) for _ in range(batch)),
        camera_annotations=tuple(
            tuple(some_camera_boxes(n % 3, classes, generator) for n in range(CAMERAS))
            for _ in range(batch)
        ),
    )


def some_boxes(count: int, classes: int, generator: torch.Generator) -> Annotations:
    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    boxes = Boxes3D(
        (uniform(count, 3) - 0.5) * torch.tensor((60.0, 60.0, 2.0)),
        uniform(count, 3) * 3 + 0.5,
        (uniform(count) - 0.5) * 2 * math.pi,
        (uniform(count, 2) - 0.5) * 8,
    )
    labels = torch.randint(0, classes, (count,), generator=generator)
    return Annotations(boxes, labels, torch.ones(count, dtype=torch.int64))


def some_camera_boxes(count: int, classes: int, generator: torch.Generator) -> CameraAnnotations:
    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    height, width = IMAGE_SIZE
    corner = uniform(count, 2) * torch.tensor((0.6 * width, 0.6 * height))
    return CameraAnnotations(
        boxes_px=torch.cat((corner, corner + 8 + 20 * uniform(count, 2)), -1),
        labels=torch.randint(classes, (count,), generator=generator),
        quaternion=functional.normalize(uniform(count, 4) - 0.5, dim=-1),
        center_m=(uniform(count, 3) - 0.5) * 8 + torch.tensor((0.0, 0.0, 20.0)),
        size_m=uniform(count, 3) * 4 + 0.5,
        attributes=torch.randint(-1, 3, (count,), generator=generator),
        speed_mps=uniform(count) * 9,
    )
