"""Clips through the whole model: results, cost, and refused inputs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bevstack.geometry import invert_se3
from bevstack.models.bevformer import BEVFormerV2
from bevstack.models.build import build_model
from bevstack.models.temporal.bev_resampling import align_history, resample_bev
from bevstack.types import Batch, BEVMemory, Reset
from tests.models.drives import (
    ALIGNMENTS,
    FRAMES,
    assert_same,
    make_drive,
    run_stream,
    temporal_config,
    temporal_model,
)

TURN = torch.tensor(((0.8, -0.6, 0.0), (0.6, 0.8, 0.0), (0.0, 0.0, 1.0)), dtype=torch.float64)


def one_by_one(model: BEVFormerV2, clip: Batch, frames: tuple[int, ...], alignment: str) -> Tensor:
    """Return the fused map of a clip of one sample, computed frame by frame."""
    current = frames.index(0)
    maps: list[Tensor | None] = []
    for slot in range(len(frames)):
        if not bool(clip.frame_valid[0, slot]):
            maps.append(None)
            continue
        pose, current_pose = clip.world_from_bev[:, slot], clip.world_from_bev[:, current]
        rig = clip.rig[:, slot]
        if alignment == "warp":
            rig = rig.moved(invert_se3(pose) @ current_pose)
        pyramid = model.neck(model.backbone(clip.images[0, slot]))
        pyramid = tuple(level[None] for level in pyramid)
        bev = model.encode(pyramid, rig, clip.camera_slots, padded_size=clip.images.shape[-2:])
        if alignment == "reproject" or slot == current:
            bev = resample_bev(bev, clip.bev_augmentation, model.grid)
        else:
            bev = align_history(
                bev[:, None], pose[:, None], current_pose, model.grid, clip.bev_augmentation
            )[:, 0]
        maps.append(bev)
    for slot in range(current - 1, -1, -1):
        maps[slot] = maps[slot + 1] if maps[slot] is None else maps[slot]
    for slot in range(current + 1, len(frames)):
        maps[slot] = maps[slot - 1] if maps[slot] is None else maps[slot]
    return model.fusion.fuse(torch.stack(maps, 1))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("frames", [(-1, 0), (-3, -2, 0), (-2, 0, 1)])
@pytest.mark.parametrize("augmented", [False, True])
def test_clip_equals_its_frames_one_by_one(
    alignment: str, frames: tuple[int, ...], augmented: bool
) -> None:
    model = temporal_model(frames, alignment)
    drive = make_drive(1, 5)
    if augmented:
        drive = replace(drive, bev_augmentation=TURN[None])
    for valid in (torch.ones(1, len(frames)).bool(), torch.tensor([[f in (0, 1) for f in frames]])):
        clip = drive.clip(3, frames, valid)
        with torch.no_grad():
            wanted = one_by_one(model, clip, frames, alignment)
            torch.testing.assert_close(model(clip).bev, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("batch", [2, 3])
def test_rows_with_different_rigs_and_missing_frames_equal_batches_of_one(
    alignment: str, batch: int
) -> None:
    model = temporal_model(FRAMES, alignment)
    drive = make_drive(batch, 4)
    mask = drive.rig.camera_mask.clone()
    mask[1, 2, 0] = False
    drive = replace(drive, rig=replace(drive.rig, camera_mask=mask))
    valid = torch.ones(batch, 4, dtype=torch.bool)
    valid[0, 1], valid[1, :3] = False, False
    with torch.no_grad():
        together = model(drive.clip(3, FRAMES, valid))
        for b in range(batch):
            alone = model(drive.rows([b]).clip(3, FRAMES, valid[b : b + 1]))
            assert_same(together, alone, [b])
    assert together.resets.tolist() == [Reset.NONE, Reset.START, Reset.NONE][:batch]


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_frames_beyond_a_jump_count_as_missing_and_are_reported(alignment: str) -> None:
    model = temporal_model(FRAMES, alignment)
    drive = make_drive(2, 4)
    poses = drive.world_from_bev.clone()
    poses[1, :2, 1, 3] -= 500.0
    valid = torch.tensor([[True] * 4, [False, False, True, True]])
    with torch.no_grad():
        jumped = model(replace(drive, world_from_bev=poses).clip(3, FRAMES))
        assert_same(jumped, model(drive.clip(3, FRAMES, valid)))
    assert jumped.resets.tolist() == [Reset.NONE, Reset.JUMP]


def test_an_empty_batch_of_clips_and_of_streams_works() -> None:
    model = temporal_model()
    empty = make_drive(2, 4).rows([])
    with torch.no_grad():
        assert model(empty.clip(3, FRAMES)).bev.shape == (0, 24, 7, 11)
        first = model(empty.step(0))
        assert model(empty.step(1), first.memory).bev.shape == (0, 24, 7, 11)


# Cost


def count_images(model: BEVFormerV2) -> list[int]:
    sizes: list[int] = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    return sizes


def test_missing_frames_are_not_encoded() -> None:
    model = temporal_model()
    sizes = count_images(model)
    encoded: list[int] = []
    model.encoder.register_forward_pre_hook(lambda module, inputs: encoded.append(len(inputs[2])))
    drive = make_drive(2, 4)
    valid = torch.tensor([[True, False, False, True], [False, False, True, True]])
    with torch.no_grad():
        model(drive.clip(3, FRAMES, valid))
        assert (sizes, encoded) == ([2 * 3, 2 * 3], [2, 2])  # two past frames, two current ones
        sizes.clear()
        encoded.clear()
        model(drive.clip(0, FRAMES))
    assert (sizes, encoded) == ([2 * 3], [2])


def test_a_step_of_a_stream_runs_the_newest_images_alone() -> None:
    model = temporal_model()
    sizes = count_images(model)
    run_stream(model, make_drive(2, 5))
    assert sizes == [2 * 3] * 5


def test_passes_of_few_frames_give_what_one_pass_gives() -> None:
    model = temporal_model()
    drive = make_drive(2, 4)
    with torch.no_grad():
        whole = model(drive.clip(3, FRAMES))
        sizes = count_images(model)
        model.pixels_per_pass = 2 * 3 * 64 * 96  # two frames
        assert_same(model(drive.clip(3, FRAMES)), whole)
        assert sizes == [6, 6, 6, 6]
        model.pixels_per_pass = 1
        assert_same(model(drive.clip(3, FRAMES)), whole)
        stream = run_stream(model, drive)[-1]
    assert_same(stream, whole)


def test_memory_holds_the_levels_of_the_encoder_and_no_more() -> None:
    torch.manual_seed(0)
    config = temporal_config()
    config = replace(config, encoder=replace(config.encoder, num_levels=2))
    with torch.no_grad():
        memory = build_model(config).eval()(make_drive(2, 1).step(0)).memory
    assert [tuple(level.shape) for level in memory.features] == [
        (2, 4, 3, 24, 8, 12),
        (2, 4, 3, 24, 2, 3),  # of strides 8 and 32
    ]
    features = 4 * 3 * 24 * (8 * 12 + 2 * 3)
    calibration = 3 * (8 * 9 + 8 * 16 + 8 * 2 + 1 + 8)  # K, pose, size, mask, slot of a camera
    assert memory.bytes_per_frame == features + calibration + 1 + 8 * 16 + 8
    with torch.no_grad():
        warped = temporal_model(FRAMES, "warp")(make_drive(2, 1).step(0)).memory
    assert warped.bytes_per_frame == 4 * 24 * 7 * 11 + 1 + 8 * 16 + 8


def test_bytes_of_a_frame_of_the_published_size() -> None:
    """A frame is four levels of six cameras at 640 x 1600, or a map of 200 x 200, in float16."""

    def bytes_of(*features: Tensor) -> int:
        frame = (torch.zeros(1, 8, 4, 4).double(), torch.zeros(1, 8).long())
        ids = (torch.zeros(1).long(),) * 2
        return BEVMemory(features, torch.zeros(1, 8).bool(), *frame, *ids).bytes_per_frame

    sizes = ((80, 200), (40, 100), (20, 50), (10, 25))
    half = {"dtype": torch.float16, "device": "meta"}
    pyramid = bytes_of(*(torch.empty(1, 8, 6, 256, *size, **half) for size in sizes))
    assert round(pyramid / 1e6, 1) == 65.3  # v2 specification, section 17: 65 MB
    assert round(bytes_of(torch.empty(1, 8, 256, 200, 200, **half)) / 1e6, 1) == 20.5


# Refusals


def test_memory_of_another_model_is_refused() -> None:
    drive = make_drive(1, 2)
    with torch.no_grad():
        memory = temporal_model((-2, -1, 0))(drive.step(0)).memory
        with pytest.raises(ValueError, match=r"must be of this model.*got one of another model"):
            temporal_model((-2, 0))(drive.step(1), memory)
        other = replace(temporal_config((-2, -1, 0)), name="renamed")
        output = build_model(other).eval()(drive.step(1), memory)  # the name does not matter
    assert output.resets.tolist() == [Reset.NONE]


def test_memory_of_another_rig_size_is_refused() -> None:
    model = temporal_model()
    with torch.no_grad():
        memory = model(make_drive(1, 1, cameras=2).step(0)).memory
        with pytest.raises(ValueError, match=r"rig size .*\(3, 64, 96\); got \[\(2, 64, 96\)\]"):
            model(make_drive(1, 1, cameras=3).step(0), memory)
        step = make_drive(1, 1, cameras=2).step(0)
        wide = replace(step, images=torch.nn.functional.pad(step.images, (0, 32)))
        with pytest.raises(ValueError, match=r"\(2, 64, 128\); got \[\(2, 64, 96\)\]"):
            model(wide, memory)
        warping = temporal_model(FRAMES, "warp")
        memory = warping(make_drive(1, 1, cameras=2).step(0)).memory
        step = make_drive(1, 2, cameras=3).step(1)
        assert warping(step, memory).resets.tolist() == [Reset.NONE]  # maps fit any rig


def test_other_numbers_of_frames_and_streams_are_refused() -> None:
    model = temporal_model()
    drive = make_drive(2, 4)
    with torch.no_grad():
        memory = model(drive.step(0)).memory
        with pytest.raises(ValueError, match=r"the 4 frames at \(-3, -2, -1, 0\).*got 2"):
            model(drive.clip(3, (-1, 0)))
        with pytest.raises(ValueError, match="memory must be None for a clip"):
            model(drive.clip(3, FRAMES), memory)
        with pytest.raises(ValueError, match="one stream a sample, 1; got 2"):
            model(drive.rows([0]).step(1), memory)


def test_a_model_of_future_frames_takes_clips_or_a_frame_without_memory() -> None:
    model = temporal_model((-1, 0, 1))
    drive = make_drive(1, 3)
    with torch.no_grad():
        alone = model(drive.step(1))
        missing = torch.tensor([[False, True, False]])
        assert_same(alone, model(drive.clip(1, (-1, 0, 1), missing)))
        assert alone.memory is None
        memory = temporal_model((-1, 0))(drive.step(0)).memory
        with pytest.raises(
            ValueError, match=r"must be None .* for a model that uses future frames"
        ):
            model(drive.step(1), memory)
