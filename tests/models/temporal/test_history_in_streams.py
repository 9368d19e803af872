"""Streams through the whole model: every step equals a clip."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bevstack.geometry import CameraRig
from bevstack.models.bevformer import BEVFormerOutput
from bevstack.types import BEVMemory, Reset
from tests.models.drives import (
    ALIGNMENTS,
    FRAMES,
    assert_same,
    make_drive,
    run_stream,
    temporal_model,
)

TURN = torch.tensor(((0.8, -0.6, 0.0), (0.6, 0.8, 0.0), (0.0, 0.0, 1.0)), dtype=torch.float64)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("frames", [(-1, 0), FRAMES, (-3, 0)])
@pytest.mark.parametrize("augmented", [False, True])
def test_stream_equals_clips(alignment: str, frames: tuple[int, ...], augmented: bool) -> None:
    model = temporal_model(frames, alignment)
    drive = make_drive(2, 6)
    if augmented:
        drive = replace(drive, bev_augmentation=torch.stack((TURN, TURN.T)))
    for moment, output in enumerate(run_stream(model, drive)):
        with torch.no_grad():
            assert_same(output, model(drive.clip(moment, frames)))
        started = Reset.START if moment == 0 else Reset.NONE
        assert output.resets.tolist() == [started, started]
        assert output.memory.num_slots == 1 - frames[0]


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_stream_equals_clips_through_a_scene_change_and_a_lost_camera(alignment: str) -> None:
    model = temporal_model(FRAMES, alignment)
    drive = make_drive(2, 7)
    mask = drive.rig.camera_mask.clone()
    mask[0, 3, 1] = False  # lost for one moment
    images = drive.images.clone()
    images[0, 3, 1] = math.nan
    changed = ("other" if m >= 4 else "scene-1" for m in range(7))
    drive = replace(
        drive,
        images=images,
        rig=replace(drive.rig, camera_mask=mask),
        scenes=(drive.scenes[0], tuple(changed)),
    )
    for moment, output in enumerate(run_stream(model, drive)):
        valid = torch.ones(2, 4, dtype=torch.bool)
        if moment >= 4:
            valid[1] = torch.tensor([moment + offset >= 4 for offset in FRAMES])
        with torch.no_grad():
            assert_same(output, model(drive.clip(moment, FRAMES, valid)))
        assert output.bev.isfinite().all()
        assert output.resets[1] == (
            Reset.SCENE if moment == 4 else Reset.START if moment == 0 else Reset.NONE
        )


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_dropped_message_is_a_missing_frame_as_in_a_clip(alignment: str) -> None:
    model = temporal_model(FRAMES, alignment)
    whole = make_drive(2, 6)
    outputs = run_stream(model, whole.without(2))
    for moment, output in zip((0, 1, 3, 4, 5), outputs, strict=True):
        valid = torch.tensor([[moment + offset != 2 for offset in FRAMES]] * 2)
        with torch.no_grad():
            assert_same(output, model(whole.clip(moment, FRAMES, valid)))
        assert output.resets.tolist() == [Reset.START if moment == 0 else Reset.NONE] * 2


def test_two_interleaved_streams_equal_two_models() -> None:
    shared = temporal_model()
    drives = (make_drive(1, 4), make_drive(1, 4, seed=50))
    memories: list[BEVMemory | None] = [None, None]
    mixed: list[list[BEVFormerOutput]] = [[], []]
    with torch.no_grad():
        for moment in range(4):
            for stream in (0, 1):
                output = shared(drives[stream].step(moment), memories[stream])
                memories[stream] = output.memory
                mixed[stream].append(output)
    for stream in (0, 1):
        alone = run_stream(temporal_model(), drives[stream])
        for got, wanted in zip(mixed[stream], alone, strict=True):
            assert torch.equal(got.bev, wanted.bev)  # identical calls
            assert torch.equal(got.decoder.codes, wanted.decoder.codes)
    assert not torch.allclose(mixed[0][3].bev, mixed[1][3].bev, atol=1e-2)


def test_rows_of_a_memory_are_selected_and_joined_in_any_order() -> None:
    model = temporal_model()
    drive = make_drive(3, 4)
    wanted = run_stream(model, drive)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        joined = model(drive.rows([2, 0, 1]).step(3), wanted[2].memory.select(order))
        assert_same(joined, BEVFormerOutput(wanted[3].bev[order], _rows(wanted[3], order), None))
        parts = [wanted[2].memory.select(torch.tensor([b])) for b in (0, 1, 2)]
        again = model(drive.step(3), BEVMemory.concatenate(parts))
    assert torch.equal(again.bev, wanted[3].bev)


def _rows(output: BEVFormerOutput, rows: Tensor):
    decoder = output.decoder
    return replace(decoder, logits=decoder.logits[:, rows], codes=decoder.codes[:, rows])


def test_a_frame_in_between_uses_the_history_of_the_last_step() -> None:
    """A frame 0.15 s after a key frame uses the frames before the key frame, and is not stored."""
    model = temporal_model()
    drive = make_drive(2, 5)
    memory = run_stream(model, drive.without(4))[-1].memory
    times = drive.timestamp_us.clone()
    times[:, 4] = times[:, 3] + 150_000
    drive = replace(drive, timestamp_us=times)
    with torch.no_grad():
        between = model(drive.step(4), memory)
        poses = drive.world_from_bev[:, [0, 1, 2, 4]]
        chosen = replace(
            drive,
            images=drive.images[:, [0, 1, 2, 4]],
            world_from_bev=poses,
            timestamp_us=times[:, [0, 1, 2, 4]],
            rig=CameraRig.stack([drive.rig[:, m] for m in (0, 1, 2, 4)], dim=1),
        )
        assert_same(between, model(chosen.clip(3, FRAMES)))
    assert between.memory is memory
    assert between.resets.tolist() == [Reset.NONE, Reset.NONE]


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_stream_starts_again_after_a_reset(alignment: str) -> None:
    model = temporal_model(FRAMES, alignment)
    drive = make_drive(2, 5)
    poses, times = drive.world_from_bev.clone(), drive.timestamp_us.clone()
    poses[0, 3:, 0, 3] += 400.0  # a teleport
    times[1, 3:] += 60_000_000  # a gap of a minute
    outputs = run_stream(model, replace(drive, world_from_bev=poses, timestamp_us=times))
    assert outputs[3].resets.tolist() == [Reset.JUMP, Reset.GAP]
    assert outputs[3].memory.valid.tolist() == [[False, False, False, True]] * 2
    assert outputs[4].resets.tolist() == [Reset.NONE, Reset.NONE]
    fresh = replace(drive, world_from_bev=poses, timestamp_us=times)
    with torch.no_grad():
        start = model(fresh.step(3))
        assert_same(outputs[3], start)
        assert_same(outputs[4], model(fresh.step(4), start.memory))
