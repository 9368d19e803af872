"""Small detectors with random weights, and frames of whole grey levels for them."""

from __future__ import annotations

from dataclasses import replace

import torch

from bevstack.config import Config, ImageConfig, load_config
from bevstack.export.onnx.check import Case, far_rig, without_camera
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.build import build_model
from bevstack.types import Batch
from tests.models.scaled_down import scaled_down
from tests.models.small_models import make_batch, randomise, small_config

CAMERAS = 4  # of the exported files; the frames below have one less
SIZE = (64, 96)


def single_frame_config() -> Config:
    """Return a configuration of one frame, with learned queries alone."""
    config = small_config()
    return replace(config, images=ImageConfig(size=SIZE), frames=(0,))


def streaming_config() -> Config:
    """Return a configuration of several frames, with the perspective head and proposals."""
    config = scaled_down(load_config("tiny_cpu_t4"))
    assert config.perspective is not None
    return replace(
        config,
        images=replace(config.images, size=SIZE),
        perspective=replace(config.perspective, score_threshold=1e-3),
    )


def build(config: Config) -> BEVFormerV2:
    """Return the model with weights that differ everywhere."""
    torch.manual_seed(0)
    return randomise(build_model(config), scale=0.05).eval()


def frame(config: Config, *, seed: int = 0, batch: int = 1, time_us: int = 0) -> Batch:
    """Return one frame a sample, whose images are smaller than ``SIZE``."""
    made = make_batch(batch, CAMERAS - 1, image_size=(60, 91), padded_size=SIZE, seed=seed)
    mean, std = (
        torch.tensor(part)[:, None, None] for part in (config.images.mean, config.images.std)
    )
    levels = torch.randint(0, 256, made.images.shape, generator=torch.Generator().manual_seed(seed))
    inside = made.images != 0
    images = ((levels.float() - mean) / std).masked_fill(~inside, 0.0)
    pose = made.world_from_bev.clone()
    pose[..., 0, 3] = time_us * 8e-6
    return replace(
        made, images=images, world_from_bev=pose, timestamp_us=made.timestamp_us + time_us
    )


def cases_of(config: Config, batch: int = 1) -> list[Case]:
    """Return frames of two streams, a far rig and a lost camera."""
    step = 500_000
    first, second, third = (
        frame(config, seed=seed, batch=batch, time_us=seed * step) for seed in range(3)
    )
    return [
        Case("frame 0", first, restart=True),
        Case("frame 1", second),
        Case("lost camera", without_camera(third, 1)),
        Case("far rig", far_rig(first), restart=True),
    ]
