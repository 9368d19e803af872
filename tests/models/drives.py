"""Drives of several vehicles: the same frames as clips and as steps of streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bevstack.config import Config, TemporalConfig
from bevstack.geometry import CameraRig, invert_se3
from bevstack.models.bevformer import BEVFormerOutput, BEVFormerV2
from bevstack.models.build import build_model
from bevstack.types import Batch
from tests.models.small_models import make_batch, randomise, ring_rig, small_config
from tests.models.temporal.test_bev_resampling import pose

STEP_US = 500_000
FRAMES = (-3, -2, -1, 0)
ALIGNMENTS = ("reproject", "warp")


def temporal_config(
    frames: Sequence[int] = (-3, -2, -1, 0), alignment: str = "reproject", norm: str = "BN"
) -> Config:
    temporal = TemporalConfig(alignment=alignment, num_fusion=2, inter_channels=20, norm=norm)
    return replace(small_config(), name="temporal", frames=tuple(frames), temporal=temporal)


def temporal_model(
    frames: Sequence[int] = (-3, -2, -1, 0), alignment: str = "reproject", seed: int = 0
) -> BEVFormerV2:
    torch.manual_seed(seed)
    return randomise(build_model(temporal_config(frames, alignment)), scale=0.05)


@dataclass(frozen=True)
class Drive:
    """Frames of B vehicles at F moments; each frame's rig is in its own bev frame."""

    images: Tensor  # (B, F, N, 3, H, W)
    rig: CameraRig  # leading axes (B, F)
    camera_slots: Tensor  # (B, N)
    world_from_bev: Tensor  # (B, F, 4, 4)
    timestamp_us: Tensor  # (B, F)
    scenes: tuple[tuple[str, ...], ...]  # B x F
    bev_augmentation: Tensor | None = None  # (B, 3, 3)

    def step(self, moment: int) -> Batch:
        """Return the frames of one moment."""
        return self._batch([moment], moment, torch.ones(len(self.images), 1, dtype=torch.bool))

    def clip(self, moment: int, offsets: Sequence[int], valid: Tensor | None = None) -> Batch:
        """Return a clip around a moment; without ``valid``, all frames of the drive are given."""
        moments = [moment + offset for offset in offsets]
        exists = torch.tensor([0 <= m < self.images.shape[1] for m in moments])
        valid = exists.expand(len(self.images), -1) if valid is None else valid & exists
        clip = self._batch([min(max(m, 0), self.images.shape[1] - 1) for m in moments], moment)
        missing = ~valid[..., None, None, None, None]
        images = clip.images.masked_fill(missing, torch.nan)  # missing frames must not be read
        times = clip.timestamp_us.masked_fill(~valid, 0)
        return replace(clip, images=images, frame_valid=valid, timestamp_us=times)

    def _batch(self, moments: list[int], current: int, valid: Tensor | None = None) -> Batch:
        poses = self.world_from_bev[:, moments]
        rig = CameraRig.stack([self.rig[:, m] for m in moments], dim=1)
        current_from_world = invert_se3(self.world_from_bev[:, current])[:, None]
        shape = poses.shape[:2]
        return Batch(
            images=self.images[:, moments],
            rig=rig.moved(current_from_world @ poses),
            frame_valid=torch.ones(shape, dtype=torch.bool) if valid is None else valid,
            camera_slots=self.camera_slots,
            world_from_bev=poses,
            timestamp_us=self.timestamp_us[:, moments],
            sample_tokens=("sample",) * shape[0],
            scene_tokens=tuple(scenes[current] for scenes in self.scenes),
            bev_augmentation=self.bev_augmentation,
        )

    def rows(self, chosen: Sequence[int]) -> Drive:
        """Return the drive with some of the vehicles."""
        index = list(chosen)
        augmentation = self.bev_augmentation
        return Drive(
            self.images[index],
            CameraRig(
                self.rig.intrinsics[index],
                self.rig.bev_from_cam[index],
                self.rig.image_size[index],
                self.rig.camera_mask[index],
            ),
            self.camera_slots[index],
            self.world_from_bev[index],
            self.timestamp_us[index],
            tuple(self.scenes[b] for b in index),
            None if augmentation is None else augmentation[index],
        )

    def without(self, moment: int) -> Drive:
        """Return the drive without the message of one moment."""
        kept = [m for m in range(self.images.shape[1]) if m != moment]
        return replace(
            self,
            images=self.images[:, kept],
            rig=CameraRig.stack([self.rig[:, m] for m in kept], dim=1),
            world_from_bev=self.world_from_bev[:, kept],
            timestamp_us=self.timestamp_us[:, kept],
            scenes=tuple(tuple(scenes[m] for m in kept) for scenes in self.scenes),
        )


def make_drive(batch: int = 2, moments: int = 6, *, cameras: int = 3, seed: int = 0) -> Drive:
    """Return vehicles far from the world's origin, with different rigs, speeds and curves."""
    stills = [make_batch(batch, cameras, seed=seed + m) for m in range(moments)]
    start = torch.stack([pose(1.3 * b, 1800.0 + 90 * b, 900.0 - 70 * b) for b in range(batch)])
    motions = torch.stack(
        [
            torch.stack([pose(0.04 * m * (b + 1), (2.5 - b) * m, 0.2 * m) for m in range(moments)])
            for b in range(batch)
        ]
    )
    own = ring_rig(batch, cameras, (50, 71), seed=seed)[:, 0]
    jitter = torch.arange(moments) % 3 * 30_000  # key frames are not quite regular
    return Drive(
        torch.cat([still.images for still in stills], 1),
        CameraRig.stack([own] * moments, dim=1),
        stills[0].camera_slots,
        start[:, None] @ motions,
        (10**15 + torch.arange(moments) * STEP_US + jitter).repeat(batch, 1),
        tuple((f"scene-{b}",) * moments for b in range(batch)),
    )


def assert_same(got: BEVFormerOutput, wanted: BEVFormerOutput, rows: object = slice(None)) -> None:
    # float32 sums of a matrix product have another order for another number of frames
    torch.testing.assert_close(got.bev[rows], wanted.bev, rtol=2e-5, atol=2e-5)
    for name in ("logits", "codes"):
        ours, theirs = getattr(got.decoder, name)[:, rows], getattr(wanted.decoder, name)
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-4)


def run_stream(model: BEVFormerV2, drive: Drive) -> list[BEVFormerOutput]:
    memory, outputs = None, []
    with torch.no_grad():
        for moment in range(drive.images.shape[1]):
            outputs.append(model(drive.step(moment), memory))
            memory = outputs[-1].memory
    return outputs
