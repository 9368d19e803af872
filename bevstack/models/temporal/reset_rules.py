"""Which past frames may be used, and why others may not: one meaning for clips and for streams.

Letters: B batch, T frames of a clip, S slots of a memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.config.temporal import TemporalConfig
from bevstack.types import Batch, BEVMemory, Reset, sequence_ids

# Clocks jitter, and the pose of an image sent twice may be estimated anew: less than this much
# time counts as this much where a speed is wanted.
MIN_ELAPSED_S = 0.05


class ClipCheck(NamedTuple):
    """Which frames of a clip are used."""

    usable: Tensor  # (B, T) bool, true for the current frame
    resets: Tensor  # (B,) int64, codes of Reset


class StreamCheck(NamedTuple):
    """How far a stream has moved on since the newest frame that it kept."""

    steps: Tensor  # (B,) int64 of frame_interval_s, to the nearest; 0 for a frame in between
    resets: Tensor  # (B,) int64, codes of Reset; where not NONE the memory is not used


def check_clip(batch: Batch, config: TemporalConfig, frames: Sequence[int]) -> ClipCheck:
    """Follows each clip from its current frame outwards, into the past and into the future.

    Time must run as the offsets do and the vehicle must drive, not jump; where either fails, that
    frame and all beyond it count as missing, and the reason is the nearest failure (of the past,
    where both sides fail). Offsets are what a clip says of the distance in time: how long a step
    really took is not looked at, and two frames of the same time, or without any, are taken to lie
    apart as their offsets say.
    """
    current = list(frames).index(0)
    usable = batch.frame_valid.clone()
    usable[:, current] = True
    resets = torch.full_like(batch.timestamp_us[:, 0], Reset.NONE)
    for outwards in (range(current - 1, -1, -1), range(current + 1, len(frames))):
        # the last usable slot of each row, seen from the current one
        last = torch.full_like(resets, current)
        reasons = torch.full_like(resets, Reset.NONE)
        for slot in outwards:
            failure = _failure(batch, config, frames, last, slot)
            failure = torch.where(usable[:, slot], failure, Reset.NONE)
            reasons = torch.where(reasons == Reset.NONE, failure, reasons)
            usable[:, slot] &= reasons == Reset.NONE
            last = torch.where(usable[:, slot], slot, last)
        resets = torch.where(resets == Reset.NONE, reasons, resets)
    alone = usable.sum(1) == 1
    return ClipCheck(usable, torch.where(alone & (resets == Reset.NONE), Reset.START, resets))


def check_stream(
    memory: BEVMemory,
    batch: Batch,  # T = 1, the new frames
    config: TemporalConfig,
) -> StreamCheck:
    """Compares each new frame with the newest one that its stream kept.

    Not with frames in between, which leave no trace: what is later than the newest one kept may
    come in any order.
    """
    elapsed_us = batch.timestamp_us[:, 0] - memory.timestamp_us[:, -1]
    interval_us = step_us(config)
    steps = (2 * elapsed_us + interval_us).div(2 * interval_us, rounding_mode="floor")
    jumps = _jumps(
        batch.world_from_bev[:, 0], memory.world_from_bev[:, -1], elapsed_us / 1e6, config
    )
    resets = torch.full_like(steps, Reset.NONE)
    for reason, holds in (  # the last that holds is told
        (Reset.GAP, steps >= memory.num_slots),
        (Reset.JUMP, jumps),
        (Reset.TIME, elapsed_us < 0),
        (Reset.SCENE, sequence_ids(batch.scene_tokens).to(steps.device) != memory.sequence_id),
        (Reset.START, ~memory.valid[:, -1]),
    ):
        resets = torch.where(holds, reason, resets)
    return StreamCheck(steps.clamp(min=0), resets)


def step_us(config: TemporalConfig) -> int:
    """Microseconds from one slot to the next."""
    return round(config.frame_interval_s * 1e6)


def _failure(
    batch: Batch,
    config: TemporalConfig,
    frames: Sequence[int],
    last: Tensor,  # (B,) int64, the nearest usable slot on the way to the current one
    slot: int,
) -> Tensor:  # (B,) int64, codes of Reset
    rows = torch.arange(batch.batch_size, device=last.device)
    offsets = torch.tensor(frames, device=last.device)
    apart = offsets[last] - frames[slot]  # (B,) steps, negative into the future
    elapsed_us = (batch.timestamp_us[rows, last] - batch.timestamp_us[:, slot]) * apart.sign()
    nominal_us = apart.abs() * step_us(config)
    seconds = torch.where(elapsed_us == 0, nominal_us, elapsed_us) / 1e6
    poses = batch.world_from_bev
    jumps = _jumps(poses[rows, last], poses[:, slot], seconds, config)
    failure = torch.where(jumps, Reset.JUMP, torch.full_like(elapsed_us, Reset.NONE))
    return torch.where(elapsed_us < 0, Reset.TIME, failure)


def _jumps(
    world_from_one: Tensor,  # (B, 4, 4)
    world_from_other: Tensor,  # (B, 4, 4)
    seconds: Tensor,  # (B,)
    config: TemporalConfig,
) -> Tensor:  # (B,) bool
    moved_m = torch.linalg.vector_norm((world_from_one - world_from_other)[:, :3, 3], dim=-1)
    return ~(moved_m <= config.max_speed_mps * seconds.clamp(min=MIN_ELAPSED_S))
