from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bevstack.config import TemporalConfig
from bevstack.models.temporal.reset_rules import check_clip, check_stream
from bevstack.types import Batch, BEVMemory, Reset, sequence_ids
from tests.models.drives import STEP_US, make_drive

CONFIG = TemporalConfig()  # steps of 0.5 s, at most 70 m/s
FRAMES = (-2, -1, 0, 1)


def clip(valid: list[list[bool]] | None = None) -> Batch:
    drive = make_drive(2, 6)
    return drive.clip(3, FRAMES, None if valid is None else torch.tensor(valid))


def moved(batch: Batch, row: int, slot: int, metres: float) -> Batch:
    poses = batch.world_from_bev.clone()
    poses[row, slot, 0, 3] += metres
    return replace(batch, world_from_bev=poses)


def at_time(batch: Batch, row: int, slot: int, timestamp_us: int) -> Batch:
    times = batch.timestamp_us.clone()
    times[row, slot] = timestamp_us
    return replace(batch, timestamp_us=times)


def checked(batch: Batch) -> tuple[list[list[bool]], list[Reset]]:
    usable, resets = check_clip(batch, CONFIG, FRAMES)
    return usable.tolist(), [Reset(code) for code in resets.tolist()]


def test_a_regular_clip_is_used_unchanged() -> None:
    given = [[True, False, True, True], [False, True, True, False]]
    assert checked(clip(given)) == (given, [Reset.NONE, Reset.NONE])


def test_a_clip_of_the_current_frame_alone_is_a_start_row_by_row() -> None:
    given = [[False, False, True, False], [True, False, True, False]]
    assert checked(clip(given)) == (given, [Reset.START, Reset.NONE])
    assert (
        checked(replace(clip(given), frame_valid=torch.zeros(2, 4, dtype=torch.bool)))[0]
        == [[False, False, True, False]] * 2
    )  # the current frame always exists


def test_nothing_beyond_a_jump_is_used() -> None:
    usable, resets = checked(moved(clip(), 1, 1, 60.0))  # in 0.5 s: 120 m/s and more
    assert usable == [[True] * 4, [False, False, True, True]]
    assert resets == [Reset.NONE, Reset.JUMP]
    usable, resets = checked(moved(clip(), 0, 3, -60.0))  # ahead
    assert usable == [[True, True, True, False], [True] * 4]
    assert resets == [Reset.JUMP, Reset.NONE]


def test_speed_is_computed_from_the_nearest_existing_frame() -> None:
    given = [[True, False, True, True], [True] * 4]
    farther = moved(clip(given), 0, 0, -45.0)  # about 50 m in the second between both
    assert checked(farther)[1] == [Reset.NONE, Reset.NONE]
    assert checked(moved(farther, 0, 0, -45.0))[1] == [Reset.JUMP, Reset.NONE]


def test_time_must_run_as_the_offsets_do() -> None:
    late = int(clip().timestamp_us[0, 2]) + 1
    usable, resets = checked(at_time(clip(), 0, 0, late))
    assert usable == [[False, True, True, True], [True] * 4]
    assert resets == [Reset.TIME, Reset.NONE]
    usable, resets = checked(at_time(clip(), 1, 3, 5))  # the future frame is older than the current
    assert usable == [[True] * 4, [True, True, True, False]]
    assert resets == [Reset.NONE, Reset.TIME]


def test_without_timestamps_the_time_between_frames_follows_from_offsets() -> None:
    batch = replace(clip(), timestamp_us=torch.zeros(2, 4, dtype=torch.int64))
    assert checked(batch) == ([[True] * 4] * 2, [Reset.NONE] * 2)
    assert checked(moved(batch, 0, 0, -60.0))[1] == [Reset.JUMP, Reset.NONE]


def test_an_empty_batch_has_empty_results() -> None:
    empty = make_drive(2, 6).rows([]).clip(3, FRAMES)
    assert [part.shape for part in check_clip(empty, CONFIG, FRAMES)] == [(0, 4), (0,)]


def memory_of(batch: Batch, slots: int = 4) -> BEVMemory:
    """Return a memory whose newest frame is the batch's."""
    count = batch.batch_size

    def repeat(tensor: Tensor) -> Tensor:
        return tensor[:, -1:].expand(count, slots, *tensor.shape[2:])

    return BEVMemory(
        (torch.zeros(count, slots, 1),),
        repeat(batch.frame_valid),
        repeat(batch.world_from_bev),
        repeat(batch.timestamp_us),
        sequence_ids(batch.scene_tokens),
        torch.zeros(count, dtype=torch.int64),
    )


def stepped(seconds: float, **changes: object) -> tuple[BEVMemory, Batch]:
    """Return the memory of two streams, and their frames the given time later."""
    first = make_drive(2, 1).step(0)
    then = replace(first, timestamp_us=first.timestamp_us + round(seconds * 1e6), **changes)
    return memory_of(first), then


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [(0.0, 0), (0.1, 0), (0.249, 0), (0.25, 1), (0.5, 1), (0.749, 1), (0.75, 2), (1.7, 3)],
)
def test_steps_are_rounded_to_the_nearest(seconds: float, steps: int) -> None:
    check = check_stream(*stepped(seconds), CONFIG)
    assert check.steps.tolist() == [steps, steps]
    assert check.resets.tolist() == [Reset.NONE, Reset.NONE]


def test_each_reason_is_reported_for_its_row() -> None:
    memory, batch = stepped(0.5)
    assert check_stream(*stepped(1.76), CONFIG).resets.tolist() == [Reset.GAP] * 2  # 4 slots
    late = at_time(batch, 1, 0, int(memory.timestamp_us[1, -1]) - 1)
    assert check_stream(memory, late, CONFIG).resets.tolist() == [Reset.NONE, Reset.TIME]
    far = moved(batch, 0, 0, 36.0)
    assert check_stream(memory, far, CONFIG).resets.tolist() == [Reset.JUMP, Reset.NONE]
    other = replace(batch, scene_tokens=("scene-0", "scene-9"))
    assert check_stream(memory, other, CONFIG).resets.tolist() == [Reset.NONE, Reset.SCENE]
    valid = memory.valid.clone()
    valid[1] = False
    empty = replace(memory, valid=valid)
    assert check_stream(empty, batch, CONFIG).resets.tolist() == [Reset.NONE, Reset.START]


def test_a_new_scene_is_reported_rather_than_the_jump_and_time_it_causes() -> None:
    memory, batch = stepped(-30.0, scene_tokens=("scene-1", "scene-0"))
    assert check_stream(memory, moved(batch, 0, 0, 900.0), CONFIG).resets.tolist() == [
        Reset.SCENE,
        Reset.SCENE,
    ]


def test_an_image_sent_twice_may_have_two_estimates_of_its_pose() -> None:
    memory, batch = stepped(0.0)
    resets = check_stream(memory, moved(moved(batch, 0, 0, 1.0), 1, 0, 5.0), CONFIG).resets
    assert resets.tolist() == [Reset.NONE, Reset.JUMP]


def test_a_pose_of_nan_is_a_jump() -> None:
    memory, batch = stepped(0.5)
    assert check_stream(memory, moved(batch, 1, 0, torch.nan), CONFIG).resets.tolist() == [
        Reset.NONE,
        Reset.JUMP,
    ]


def test_the_drives_of_the_tests_have_steps_of_half_a_second() -> None:
    assert round(CONFIG.frame_interval_s * 1e6) == STEP_US
