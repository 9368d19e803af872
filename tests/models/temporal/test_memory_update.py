from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
import torch

from bevstack.config import TemporalConfig
from bevstack.geometry import CameraRig
from bevstack.models.layers.sizes import Bounds, Sizes
from bevstack.models.temporal.memory_update import advance_memory, start_memory
from bevstack.models.temporal.reset_rules import StreamCheck
from bevstack.types import BEVMemory, Reset

CONFIG = TemporalConfig()
STEP_US = 500_000


@dataclass
class NaiveStream:
    """Slots of one stream as a list of the frames' times, newest last; None if empty."""

    count: int
    slots: list[int | None] = field(default_factory=list)

    def add(self, time_us: int, steps: int, reset: bool) -> None:
        if reset or not self.slots:
            self.slots = [None] * (self.count - 1) + [time_us]
        elif steps:
            empty: list[int | None] = [None] * (steps - 1)
            self.slots = (self.slots + empty + [time_us])[-self.count :]
        elif self.slots[-2] is not None:
            wanted = self.slots[-2] + STEP_US
            self.slots[-1] = min((self.slots[-1], time_us), key=lambda t: abs(t - wanted))


def one_frame(times_us: list[int], *, with_rig: bool = True) -> BEVMemory:
    """Return a memory of one slot in which every tensor is filled with the frame's time."""
    batch = len(times_us)
    time = torch.tensor(times_us, dtype=torch.int64)[:, None]

    def filled(*shape: int) -> torch.Tensor:
        wide = time.double().view(batch, 1, *(1 for _ in shape))
        return wide.expand(batch, 1, *shape).clone()

    rig = CameraRig(filled(2, 3, 3), filled(2, 4, 4), filled(2, 2).long(), filled(2) > 0)
    return BEVMemory(
        (filled(2, 3, 2, 5), filled(2, 3, 1, 2)),
        torch.ones(batch, 1, dtype=torch.bool),
        filled(4, 4),
        time,
        time[:, 0] % 7,
        (5,) * batch,
        rig if with_rig else None,
        filled(2).long() if with_rig else None,
        ((64, 96),) * batch if with_rig else None,
    )


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("slots", [2, 5])
@pytest.mark.parametrize("with_rig", [True, False])
def test_memory_equals_a_list_of_frames_for_each_stream(
    batch: int, slots: int, with_rig: bool
) -> None:
    draw = random.Random(batch + slots)
    times = [draw.randrange(10**6, 2 * 10**6) for _ in range(batch)]
    memory = start_memory(one_frame(times, with_rig=with_rig), slots)
    naive = [NaiveStream(slots) for _ in range(batch)]
    for stream, time in zip(naive, times, strict=True):
        stream.add(time, 0, True)
    for _ in range(60):
        last = [int(time) for time in memory.timestamp_us[:, -1]]
        elapsed = [draw.choice((0, 90_000, 240_000, 450_000, 520_000, 1_100_000)) for _ in last]
        steps = [(2 * e + STEP_US) // (2 * STEP_US) for e in elapsed]
        resets = [draw.random() < 0.1 for _ in last]
        times = [time + e for time, e in zip(last, elapsed, strict=True)]
        check = StreamCheck(torch.tensor(steps), torch.tensor(resets) * int(Reset.JUMP))
        newest = one_frame(times, with_rig=with_rig)
        before = [tensor.clone() for tensor in memory.frame_tensors()]
        after = advance_memory(memory, newest, check, CONFIG)
        for tensor, old in zip(memory.frame_tensors(), before, strict=True):
            assert torch.equal(tensor, old)  # the input is not changed
        for b, stream in enumerate(naive):
            stream.add(times[b], steps[b], resets[b])
            assert after.valid[b].tolist() == [slot is not None for slot in stream.slots]
            for s, slot in enumerate(stream.slots):
                for tensor in after.frame_tensors():
                    if slot is not None and tensor.dtype != torch.bool:
                        assert bool((tensor[b, s] == slot).all())
        memory = after
    assert memory.fingerprint[0] == 5


def test_a_stream_of_10_hz_has_a_history_of_2_hz() -> None:
    memory = start_memory(one_frame([10**6]), 4)
    for tick in range(1, 26):
        time = 10**6 + tick * 100_000
        elapsed = time - int(memory.timestamp_us[0, -1])
        steps = torch.tensor([(2 * elapsed + STEP_US) // (2 * STEP_US)])
        memory = advance_memory(
            memory, one_frame([time]), StreamCheck(steps, torch.tensor([0])), CONFIG
        )
    kept = (memory.timestamp_us[0] - 10**6).tolist()
    assert kept == [1_000_000, 1_500_000, 2_000_000, 2_500_000]
    assert memory.valid.all()


def test_a_discarded_frame_costs_no_copy() -> None:
    memory = start_memory(one_frame([10**6, 10**6]), 3)
    check = StreamCheck(torch.tensor([0, 0]), torch.tensor([0, 0]))
    assert advance_memory(memory, one_frame([10**6 + 9] * 2), check, CONFIG) is memory
    fixed = Sizes(Bounds(pairs=0, candidates=0, rounds=0, mirrored=0))
    copy = advance_memory(memory, one_frame([10**6 + 9] * 2), check, CONFIG, fixed)
    for tensor, other in zip(copy.frame_tensors(), memory.frame_tensors(), strict=True):
        assert torch.equal(tensor, other)
