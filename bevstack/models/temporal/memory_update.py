"""One step of a stream's memory: what the next frame finds.

Letters: B batch, S slots.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bevstack.config.temporal import TemporalConfig
from bevstack.models.temporal.reset_rules import StreamCheck, step_us
from bevstack.types import BEVMemory, Reset


def start_memory(newest: BEVMemory, num_slots: int) -> BEVMemory:
    """A memory whose newest slot is the given one (S = 1); the others are empty."""

    def widen(tensor: Tensor) -> Tensor:
        wide = tensor.new_zeros(tensor.shape[0], num_slots, *tensor.shape[2:])
        wide[:, -1] = tensor[:, 0]
        return wide

    return newest.map_frames(widen)


def advance_memory(
    memory: BEVMemory,
    newest: BEVMemory,  # S = 1, the frame just seen
    check: StreamCheck,
    config: TemporalConfig,
) -> BEVMemory:
    """The memory after a frame, row by row.

    Its slots move on by the steps since the newest frame kept, so a message that was dropped
    leaves an empty slot. A frame less than half an interval after the newest one does not move
    them: it takes the newest one's place where it lies nearer to one interval after the frame
    before, and is not kept otherwise. So a stream of 10 Hz has a history of 2 Hz. Where the stream
    was reset nothing but the new frame is left. Costs a copy of the features.
    """
    slots = torch.arange(memory.num_slots, device=check.steps.device)
    moved = torch.where(check.resets == Reset.NONE, check.steps, memory.num_slots)
    put = (moved > 0) | _lies_better(memory, newest, config)
    if not bool(put.any()):
        return memory
    source = slots + moved[:, None]  # (B, S)
    there = source < memory.num_slots
    source = source.clamp(max=memory.num_slots - 1)
    rows = torch.arange(memory.batch_size, device=source.device)[:, None]
    kept = memory.map_frames(lambda tensor: tensor[rows, source])
    kept.valid.logical_and_(there)
    return _with_newest(kept, newest, put)


def _with_newest(
    kept: BEVMemory,  # tensors of its own, which are written to
    newest: BEVMemory,
    put: Tensor,  # (B,) bool
) -> BEVMemory:
    (rows,) = put.nonzero(as_tuple=True)
    chosen = newest.select(rows)
    for old, new in zip(kept.of_frames(), chosen.of_frames(), strict=True):
        old[rows, -1] = new[:, 0].to(old.dtype)
    return replace(
        kept,
        sequence_id=newest.sequence_id,
        fingerprint=newest.fingerprint,
        padded_size=newest.padded_size,
    )


def _lies_better(
    memory: BEVMemory, newest: BEVMemory, config: TemporalConfig
) -> Tensor:  # (B,) bool
    """Whether a frame in between is nearer to one interval after the last but one than the last."""
    before_us, last_us = memory.timestamp_us[:, -2], memory.timestamp_us[:, -1]
    wanted_us = before_us + step_us(config)
    nearer = (newest.timestamp_us[:, 0] - wanted_us).abs() < (last_us - wanted_us).abs()
    return memory.valid[:, -2] & nearer
