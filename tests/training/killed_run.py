"""Training run in a separate process that tests kill; forked from a server with torch loaded."""

import dataclasses
import multiprocessing
from pathlib import Path

import torch

from bevstack.config import AugmentationConfig
from tests.small_world import CONFIG, dataset
from tests.small_world import train_detector as train

RECIPE = dataclasses.replace(
    CONFIG.training,
    num_steps=9,
    batch_size=4,  # of 6 samples: an epoch ends within a step and within a pass
    accumulate=2,
    ema_decay=0.9,
    schedule="cosine",
    checkpoint_every=2,
    evaluate_every=6,
)
AUGMENTATION = AugmentationConfig(
    resize=(0.8, 1.2), flip_images=True, photometric=True, grid_mask=0.5, rotate_deg=20, flip_y=True
)


def config(num_workers=0):
    """Return the small detector with every part on that draws random numbers or has a state."""
    recipe = dataclasses.replace(RECIPE, num_workers=num_workers)
    return dataclasses.replace(CONFIG, training=recipe, augmentation=AUGMENTATION)


def run(root, out, num_workers=0, started=None):
    """Start the run or resume it."""
    torch.set_num_threads(1)  # as in the tests' process: the number of threads affects rounding
    sets = dataset(root), dataset(root, "synth_val").select([0, 4])
    if started is not None:
        started.set()
    return train(config(num_workers), sets[0], Path(out), held_out=sets[1], resume=True)


def start(root, out, num_workers):
    """Start the run in a separate process; return when it is about to train."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    started = context.Event()
    process = context.Process(target=_run_alone, args=(root, str(out), num_workers, started))
    process.start()
    assert started.wait(600)
    return process


def _run_alone(*arguments):
    """Run with forked loader workers, like a program: they end when this process is killed.

    Workers of a forkserver, which this process would inherit, would outlive it with the server.
    """
    multiprocessing.set_start_method("fork", force=True)
    run(*arguments)
