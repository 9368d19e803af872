"""Rules for using past frames, and reasons for dropping them: the same for clips and streams.

Letters: B batch, T frames of a clip, S slots of a memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bevstack.config.temporal import TemporalConfig
from bevstack.geometry import constant
from bevstack.types import Batch, BEVMemory, Reset

# Shorter times count as this much where a speed is computed: clocks jitter, and the pose of an
# image that is sent twice may be estimated a second time.
MIN_ELAPSED_S = 0.05


class ClipCheck(NamedTuple):
    """Usable frames of a clip, and the reason for dropping the rest."""

    usable: Tensor  # (B, T) bool, True for the current frame
    resets: Tensor  # (B,) int64, codes of Reset


class StreamCheck(NamedTuple):
    """Steps of a stream since the newest frame in memory, and the reason for a reset."""

    steps: Tensor  # (B,) int64, rounded multiples of frame_interval_s; 0 for a frame in between
    resets: Tensor  # (B,) int64, codes of Reset; the memory is used only for NONE


def check_clip(batch: Batch, config: TemporalConfig, frames: Sequence[int]) -> ClipCheck:
    """Check each clip from its current frame outwards, into the past and into the future.

    Timestamps must have the order of the offsets, and the pose must not jump. If a frame fails, it
    and all frames beyond it count as missing. The reset code is that of the failure nearest to the
    current frame, or of the past if both sides fail. If only the current frame is given, it is
    START.

    Speeds use the time between timestamps. The duration of a step is not checked otherwise. If two
    timestamps are equal, or there are none, the time follows from the offsets.
    """
    current = list(frames).index(0)
    usable = batch.frame_valid.clone()
    usable[:, current] = True
    resets = torch.full_like(batch.timestamp_us[:, 0], Reset.NONE)
    for outwards in (range(current - 1, -1, -1), range(current + 1, len(frames))):
        # the outermost usable slot of each row so far
        last = torch.full_like(resets, current)
        reasons = torch.full_like(resets, Reset.NONE)
        for slot in outwards:
            failure = _failure(batch, config, frames, last, slot)
            failure = failure.masked_fill(~usable[:, slot], Reset.NONE)
            reasons = torch.where(reasons == Reset.NONE, failure, reasons)
            usable[:, slot] &= reasons == Reset.NONE
            last = last.masked_fill(usable[:, slot], slot)
        resets = torch.where(resets == Reset.NONE, reasons, resets)
    alone = usable.sum(1) == 1
    return ClipCheck(usable, resets.masked_fill(alone & (resets == Reset.NONE), Reset.START))


def check_stream(
    memory: BEVMemory,
    batch: Batch,  # T = 1, the new frames
    config: TemporalConfig,
) -> StreamCheck:
    """Compare each new frame with the newest frame in its stream's memory.

    Frames that were not stored do not matter, so frames later than the newest one in memory may
    come in any order.
    """
    elapsed_us = batch.timestamp_us[:, 0] - memory.timestamp_us[:, -1]
    interval_us = step_us(config)
    steps = (2 * elapsed_us + interval_us).div(2 * interval_us, rounding_mode="floor")
    jumps = _jumps(
        batch.world_from_bev[:, 0], memory.world_from_bev[:, -1], elapsed_us / 1e6, config
    )
    resets = torch.full_like(steps, Reset.NONE)
    for reason, applies in (  # if several apply, the last one is reported
        (Reset.GAP, steps >= memory.num_slots),
        (Reset.JUMP, jumps),
        (Reset.TIME, elapsed_us < 0),
        (Reset.SCENE, batch.sequence_id != memory.sequence_id),
        (Reset.START, ~memory.valid[:, -1]),
    ):
        resets = resets.masked_fill(applies, reason)
    return StreamCheck(steps.clamp(min=0), resets)


def step_us(config: TemporalConfig) -> int:
    """Return the microseconds from one slot to the next."""
    return round(config.frame_interval_s * 1e6)


def _failure(
    batch: Batch,
    config: TemporalConfig,
    frames: Sequence[int],
    last: Tensor,  # (B,) int64, nearest usable slot towards the current one
    slot: int,
) -> Tensor:  # (B,) int64, codes of Reset
    rows = torch.arange(batch.batch_size, device=last.device)
    offsets = constant(last, frames)
    steps = offsets[last] - frames[slot]  # (B,) negative into the future
    elapsed_us = (batch.timestamp_us[rows, last] - batch.timestamp_us[:, slot]) * steps.sign()
    nominal_us = steps.abs() * step_us(config)
    seconds = torch.where(elapsed_us == 0, nominal_us, elapsed_us) / 1e6
    poses = batch.world_from_bev
    jumps = _jumps(poses[rows, last], poses[:, slot], seconds, config)
    failure = torch.full_like(elapsed_us, Reset.NONE).masked_fill(jumps, Reset.JUMP)
    return failure.masked_fill(elapsed_us < 0, Reset.TIME)


def _jumps(
    world_from_first: Tensor,  # (B, 4, 4)
    world_from_second: Tensor,  # (B, 4, 4)
    seconds: Tensor,  # (B,)
    config: TemporalConfig,
) -> Tensor:  # (B,) bool
    shift = (world_from_first - world_from_second)[:, :3, 3]
    distance_m: Tensor = torch.linalg.vector_norm(shift, dim=-1)
    return ~(distance_m <= config.max_speed_mps * seconds.clamp(min=MIN_ELAPSED_S))
