"""Bounds are learned from frames, and no frame that exceeds them gives an incomplete output."""

from __future__ import annotations

from dataclasses import replace

import torch

from bevstack.models.layers.sizes import Bounds
from bevstack.runtime.bounded import BoundedModel
from tests.models.test_fixed_shapes import STREAMING, assert_equal, frames_of, run, small_model


def test_outputs_are_complete_while_bounds_are_learned() -> None:
    model, config = small_model(STREAMING)
    frames = frames_of(config)
    mirrored = replace(frames[-1], images=frames[-1].images.flip(-1), rig=frames[-1].rig.flipped())
    steps = [*frames, mirrored, frames[-1]]
    used: list[Bounds | None] = []
    handle = model.register_forward_pre_hook(
        lambda _, args, options: used.append(options.get("bounds")), with_kwargs=True
    )
    bounded, memory = BoundedModel(model), None
    exact = run(model, steps, None)
    used.clear()
    with torch.no_grad():
        for frame, wanted in zip(steps, exact, strict=True):
            output = bounded(frame, memory)
            assert_equal(output, wanted)
            memory = output.memory
    handle.remove()
    assert used[0] is None  # the first frame shows the counts
    assert bounded.bounds is not None and bounded.bounds.mirrored > 0
    # Mirrored images exceed the bounds once: the frame runs with them, and again without.
    at = used.index(None, used.index(None) + 1) if used.count(None) > 1 else len(used)
    assert any(bounds is not None and bounds.mirrored == 0 for bounds in used[:at])
    assert used[-1] == bounded.bounds


def test_a_bound_that_is_too_small_costs_a_second_run_and_no_box() -> None:
    model, config = small_model(STREAMING)
    frame = frames_of(config)[-1]
    bounded = BoundedModel(model)
    with torch.no_grad():
        wanted = model(frame)
        bounded.bounds = Bounds(pairs=1, candidates=1, rounds=1, mirrored=0)
        assert_equal(bounded(frame), wanted)
        assert bounded.bounds.pairs > 1 and bounded.bounds.candidates > 1
        assert_equal(bounded(frame), wanted)
