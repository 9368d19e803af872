"""A forward pass with bounds: no wait for the device, no copy to it, one graph, equal numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)

from benchmarks.dispatch_counts import COPY, SYNC, DispatchCounts
from bevstack.config import Config, load_config
from bevstack.models.bevformer import BEVFormerOutput, BEVFormerV2
from bevstack.models.build import build_model
from bevstack.models.layers.sizes import NO_BOUNDS, Bounds
from bevstack.types import Batch
from tests.models.fake_gpu import fake_gpu, move_module, on_fake_gpu
from tests.models.scaled_down import scaled_down, training_clips
from tests.models.small_models import randomise

CONFIGURATIONS = ("tiny_cpu", "tiny_cpu_t4", "bevformerv2_internimage_xl_t1", "bevformerv2_r50_t2")
STREAMING = "tiny_cpu_t4"
ROOMY = Bounds(pairs=512, candidates=128, rounds=64, mirrored=0)


def small_model(name: str) -> tuple[BEVFormerV2, Config]:
    """Return the scaled-down model with weights that let its perspective head propose boxes."""
    config = scaled_down(load_config(name))
    if config.perspective is not None:
        config = replace(config, perspective=replace(config.perspective, score_threshold=1e-3))
    torch.manual_seed(0)
    return randomise(build_model(config)).eval(), config


def one_frame(clip: Batch, slot: int) -> Batch:
    """Return a frame of the clip as a step of a stream; its rig is in its own bev frame."""
    part = slice(slot, slot + 1)
    return replace(
        clip,
        images=clip.images[:, part],
        rig=clip.rig[:, part].moved(clip.world_from_bev[:, part].inverse()),
        frame_valid=clip.frame_valid[:, part],
        world_from_bev=clip.world_from_bev[:, part],
        timestamp_us=clip.timestamp_us[:, part],
        camera_annotations=None,
    )


def frames_of(config: Config, batch: int = 2, *, seed: int = 0) -> list[Batch]:
    clip = training_clips(config, batch, seed=seed)
    return [one_frame(clip, slot) for slot in range(len(config.frames))]


def without(batch: Batch, camera: int) -> Batch:
    """Return the batch with a lost camera in the first sample, whose image is NaN."""
    mask, images = batch.rig.camera_mask.clone(), batch.images.clone()
    mask[0, :, camera] = False
    images[0, :, camera] = torch.nan
    return replace(batch, images=images, rig=replace(batch.rig, camera_mask=mask))


def run(model: BEVFormerV2, frames: list[Batch], bounds: Bounds | None) -> list[BEVFormerOutput]:
    outputs: list[BEVFormerOutput] = []
    with torch.no_grad():
        for frame in frames:
            memory = outputs[-1].memory if outputs else None
            outputs.append(model(frame, memory, bounds=bounds))
    return outputs


def counts_of(output: BEVFormerOutput) -> Bounds:
    assert output.counts is not None
    return Bounds(*output.counts.tolist())


def assert_equal(got: BEVFormerOutput, wanted: BEVFormerOutput) -> None:
    # Other shapes let matrix products and convolutions sum in another order.
    close = partial(torch.testing.assert_close, rtol=2e-4, atol=2e-4)
    close(got.bev, wanted.bev)
    close(got.decoder.logits, wanted.decoder.logits)
    close(got.decoder.codes, wanted.decoder.codes)
    if wanted.resets is not None:
        assert torch.equal(got.resets, wanted.resets)
    if wanted.memory is not None:
        assert got.memory is not None
        assert torch.equal(got.memory.valid, wanted.memory.valid)
        assert torch.equal(got.memory.timestamp_us, wanted.memory.timestamp_us)
        chosen = wanted.memory.valid
        for feature, other in zip(got.memory.features, wanted.memory.features, strict=True):
            close(feature[chosen], other[chosen])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_bounds_change_no_result(name: str) -> None:
    model, config = small_model(name)
    frames = frames_of(config)
    frames[-1] = without(frames[-1], 1)
    exact, fixed = run(model, frames, None), run(model, frames, ROOMY)
    for got, wanted in zip(fixed, exact, strict=True):
        assert ROOMY.holds(counts_of(got))
        assert counts_of(got).pairs == counts_of(wanted).pairs > 0
        assert_equal(got, wanted)
    if model.propose is not None:
        assert counts_of(exact[-1]).candidates > 2
        assert counts_of(exact[-1]).rounds > 1
    assert len(frames) == 1 or not torch.equal(exact[-1].bev, run(model, frames[-1:], None)[0].bev)


def test_frames_in_between_and_resets_are_those_without_bounds() -> None:
    model, config = small_model(STREAMING)
    frames = frames_of(config)
    between = replace(frames[-1], timestamp_us=frames[-1].timestamp_us + 90_000)
    later = torch.tensor(((4_000_000,), (600_000,)))
    gap = replace(frames[-1], timestamp_us=frames[-1].timestamp_us + later)
    scene = replace(gap, scene_tokens=("other", "scene"))
    steps = [*frames, between, gap, scene]
    exact, fixed = run(model, steps, None), run(model, steps, ROOMY)
    assert len({int(code) for output in exact for code in output.resets}) > 3
    for got, wanted in zip(fixed, exact, strict=True):
        assert_equal(got, wanted)


def test_bounds_change_no_result_of_a_clip_with_missing_frames() -> None:
    model, config = small_model("bevformerv2_internimage_xl_bidirectional")
    clip = replace(training_clips(config, 2), camera_annotations=None)
    valid = clip.frame_valid.clone()
    valid[0, 0] = valid[1, -1] = False
    clip = replace(clip, frame_valid=valid)
    with torch.no_grad():
        assert_equal(model(clip, bounds=ROOMY), model(clip))


@pytest.mark.parametrize("field", ["pairs", "candidates", "rounds"])
def test_counts_show_a_bound_that_is_too_small(field: str) -> None:
    model, config = small_model(STREAMING)
    frames = frames_of(config)[-1:]
    exact = counts_of(run(model, frames, None)[0])
    narrow = replace(ROOMY, **{field: getattr(exact, field) - 1})
    counts = counts_of(run(model, frames, narrow)[0])
    assert getattr(counts, field) > getattr(narrow, field)
    assert not narrow.holds(counts)
    tight = replace(ROOMY, **{field: getattr(exact, field)})
    assert tight.holds(counts_of(run(model, frames, tight)[0]))


def test_mirrored_images_exceed_bounds_without_room_for_them() -> None:
    model, config = small_model(STREAMING)
    frame = frames_of(config)[-1]
    rig = frame.rig.flipped()
    mirrored = replace(frame, images=frame.images.flip(-1), rig=rig)
    counts = counts_of(run(model, [mirrored], ROOMY)[0])
    assert counts.mirrored == 12  # two samples of six cameras
    assert not ROOMY.holds(counts)
    with_room = ROOMY.widened(counts)
    assert_equal(run(model, [mirrored], with_room)[0], run(model, [mirrored], None)[0])


def test_bounds_grow_in_steps_and_leave_room() -> None:
    counts = Bounds(pairs=1000, candidates=70, rounds=5, mirrored=0)
    bounds = NO_BOUNDS.widened(counts)
    assert bounds == Bounds(pairs=1280, candidates=128, rounds=8, mirrored=0)
    assert bounds.widened(replace(counts, pairs=3)) == bounds
    assert bounds.widened(replace(counts, mirrored=6)).mirrored >= 6
    assert bounds.holds(counts) and not bounds.holds(replace(counts, rounds=9))


def fake_forward(
    name: str, bounds: Bounds | None, *, history: bool
) -> tuple[DispatchCounts, BEVFormerOutput]:
    """Run a forward pass on a GPU that does not exist; operators that need its values raise."""
    model, config = small_model(name)
    frames = frames_of(config)
    memory = run(model, frames[:-1], None)[-1].memory if history else None
    with fake_gpu():
        batch = on_fake_gpu(frames[-1])
        memory = None if memory is None else on_fake_gpu(memory)
        move_module(model)
        with DispatchCounts() as counts:
            output = model(batch, memory, bounds=bounds)
    return counts, output


FAKE_CASES = [(name, False) for name in CONFIGURATIONS] + [
    (STREAMING, True),
    ("bevformerv2_r50_t2", True),
]


@pytest.mark.parametrize(("name", "history"), FAKE_CASES)
def test_a_forward_pass_on_a_gpu_neither_waits_nor_copies(name: str, history: bool) -> None:
    counts, output = fake_forward(name, ROOMY, history=history)
    assert output.decoder.logits.device.type == "cuda"
    assert counts.count(SYNC) == counts.count(COPY) == 0, counts.sites


def test_without_bounds_a_forward_pass_on_a_gpu_needs_values() -> None:
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        fake_forward(STREAMING, None, history=False)


def _wait(x: Tensor) -> object:
    return x[x > 0]


def _copy_numbers(x: Tensor) -> object:
    return x.new_tensor((1.0, 2.0))


def _copy_index(x: Tensor) -> object:
    return x[..., (0, 1)]


def _check_errors(x: Tensor) -> object:
    return torch.linalg.inv(x.outer(x) + 1)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (_wait, SYNC),
        (_copy_numbers, COPY),
        (_copy_index, COPY),
        (_check_errors, SYNC),
    ],
)
def test_waits_and_copies_are_counted(function: Callable[[Tensor], object], kind: str) -> None:
    needs_values = (DataDependentOutputException, DynamicOutputShapeException)
    with fake_gpu():
        x = torch.ones(3, device="cuda")
        with DispatchCounts() as counts, contextlib.suppress(*needs_values):
            function(x)
    assert counts.count(kind) >= 1


@pytest.mark.parametrize(
    "name",
    ["tiny_cpu_t4", pytest.param("bevformerv2_internimage_xl_t1", marks=pytest.mark.slow)],
)
def test_the_whole_model_is_one_graph(name: str) -> None:
    model, config = small_model(name)
    if config.temporal is not None:
        config = replace(config, frames=(0,), temporal=None)
        model = randomise(build_model(config)).eval()
    bounds = replace(ROOMY, rounds=8)
    torch._dynamo.reset()
    compiled = torch.compile(partial(model.forward, bounds=bounds), fullgraph=True, backend="eager")
    with torch.no_grad():
        for seed in range(2):
            frame = frames_of(config, batch=1, seed=seed)[0]
            wanted = model(frame)
            got = compiled(frame)
            assert bounds.holds(counts_of(got))
            torch.testing.assert_close(got.bev, wanted.bev, rtol=1e-4, atol=1e-4)
            logits, codes = wanted.decoder.logits, wanted.decoder.codes
            torch.testing.assert_close(got.decoder.logits, logits, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(got.decoder.codes, codes, rtol=1e-4, atol=1e-4)
    torch._dynamo.reset()
