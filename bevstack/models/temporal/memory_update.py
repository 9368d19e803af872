"""Update of a stream's memory by one frame.

Letters: B batch, S slots.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bevstack.config.temporal import TemporalConfig
from bevstack.models.layers.sizes import Sizes
from bevstack.models.temporal.reset_rules import StreamCheck, step_us
from bevstack.types import BEVMemory, Reset


def start_memory(newest: BEVMemory, num_slots: int) -> BEVMemory:
    """Return a memory with the given frame (S = 1) in its newest slot; the rest is empty."""

    def widen(tensor: Tensor) -> Tensor:
        wide = tensor.new_zeros(tensor.shape[0], num_slots, *tensor.shape[2:])
        wide[:, -1] = tensor[:, 0]
        return wide

    return newest.map_frames(widen)


def advance_memory(
    memory: BEVMemory,
    newest: BEVMemory,  # S = 1, the current frame
    check: StreamCheck,
    config: TemporalConfig,
    sizes: Sizes | None = None,
) -> BEVMemory:
    """Return the memory after a frame, updated row by row.

    Slots shift by the number of steps since the newest frame in memory, so a dropped message leaves
    an empty slot. A frame less than half an interval after the newest one does not shift them. It
    replaces the newest one if it is closer to one interval after the second-newest frame, and is
    discarded otherwise. So a stream of 10 Hz has a history of 2 Hz. After a reset only the new
    frame remains.

    Costs a copy of the features. Without bounds in ``sizes`` there is none if the new frame is
    discarded in every row.
    """
    slots = torch.arange(memory.num_slots, device=check.steps.device)
    shift = check.steps.masked_fill(check.resets != Reset.NONE, memory.num_slots)
    stored = (shift > 0) | _closer_to_interval(memory, newest, config)
    if (sizes is None or sizes.bounds is None) and not bool(stored.any()):
        return memory
    source = slots + shift[:, None]  # (B, S)
    exists = source < memory.num_slots
    source = source.clamp(max=memory.num_slots - 1)
    rows = torch.arange(memory.batch_size, device=source.device)[:, None]
    shifted = memory.map_frames(lambda tensor: tensor[rows, source])
    shifted.valid.logical_and_(exists)
    return _with_newest(shifted, newest, stored)


def _with_newest(
    shifted: BEVMemory,  # its tensors are changed in place
    newest: BEVMemory,
    stored: Tensor,  # (B,) bool, rows that take the new frame
) -> BEVMemory:
    for old, new in zip(shifted.frame_tensors(), newest.frame_tensors(), strict=True):
        chosen = stored.view(-1, *(1 for _ in old.shape[2:]))
        old[:, -1] = torch.where(chosen, new[:, 0].to(old.dtype), old[:, -1])
    return replace(
        shifted,
        sequence_id=newest.sequence_id,
        fingerprint=newest.fingerprint,
        padded_size=newest.padded_size,
    )


def _closer_to_interval(
    memory: BEVMemory, newest: BEVMemory, config: TemporalConfig
) -> Tensor:  # (B,) bool
    """Return True if the new frame should replace the newest one in memory.

    That is if it is closer to one interval after the second-newest frame.
    """
    second_us, newest_us = memory.timestamp_us[:, -2], memory.timestamp_us[:, -1]
    wanted_us = second_us + step_us(config)
    closer = (newest.timestamp_us[:, 0] - wanted_us).abs() < (newest_us - wanted_us).abs()
    return memory.valid[:, -2] & closer
