"""Runs killed with SIGKILL at any moment and resumed equal an uninterrupted run bit for bit."""

import random
import time

import pytest
import torch
from safetensors.torch import load_file

from bevstack.tasks.detection3d import Detection3D
from bevstack.training.checkpoint import checkpoint_path, load_checkpoint
from bevstack.training.jsonl import read_jsonl
from tests.small_world import small_world
from tests.training import killed_run

TIMES = {"data_s", "step_s", "elapsed_s", "memory_bytes"}  # only these may differ


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_world(tmp_path_factory)


@pytest.fixture(scope="module")
def whole_run(root, tmp_path_factory):
    """Return the folder of an uninterrupted run, and its duration in a separate process."""
    out = tmp_path_factory.mktemp("whole")
    process = killed_run.start(root, out, 0)
    started = time.monotonic()
    process.join()
    assert process.exitcode == 0
    return out, time.monotonic() - started


def without_times(entries):
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]


def expect_the_same(out, whole):
    for name in ("log.jsonl", "evaluations.jsonl"):
        assert without_times(read_jsonl(out / name)) == without_times(read_jsonl(whole / name)), (
            name
        )
    for name in ("model.safetensors", "best.safetensors"):
        found, wanted = load_file(out / name), load_file(whole / name)
        assert all(torch.equal(found[key], wanted[key]) for key in wanted), name
    last = killed_run.RECIPE.num_steps
    task = Detection3D(killed_run.config())
    states = [load_checkpoint(checkpoint_path(f, last), task) for f in (out, whole)]
    for part in ("model", "optimizer", "average"):
        found, wanted = (getattr(state, part) for state in states)
        assert found.keys() == wanted.keys() != set()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted), part
    found, wanted = (state.position for state in states)
    assert (found.steps_done, found.samples_seen, found.epoch) == (last, 4 * last, 4 * last // 6)
    assert found.skipped == wanted.skipped == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())


@pytest.mark.parametrize(
    ("kills", "seed"), [(3, 0), *(pytest.param(5, s, marks=pytest.mark.slow) for s in range(1, 6))]
)
def test_killed_at_random_moments_and_resumed(root, tmp_path, whole_run, kills, seed):
    """Resume with another number of workers each time."""
    whole, whole_s = whole_run
    draw = random.Random(seed)
    run = done = 0
    while done < kills:
        out = tmp_path / str(run)
        process = killed_run.start(root, out, draw.choice((0, 0, 1)))
        process.join(draw.uniform(0, 0.6 * whole_s))
        if process.exitcode is None:
            process.kill()
            done += 1
        process.join()
        if process.exitcode == 0:  # it finished before the kill: start another one
            expect_the_same(out, whole)
            run += 1
    killed_run.run(root, tmp_path / str(run))
    expect_the_same(tmp_path / str(run), whole)
