"""A run in a process of its own, to be killed; forked from a server that has torch loaded."""

import dataclasses
import multiprocessing
from pathlib import Path

import torch

from bevstack.config import AugmentationConfig
from bevstack.training import train
from tests.small_world import CONFIG, dataset

RECIPE = dataclasses.replace(
    CONFIG.training,
    num_steps=9,
    batch_size=4,  # of 6 samples: an epoch ends inside of a step and of a pass
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
    """The small detector, and everything on that draws a random number or has a state."""
    recipe = dataclasses.replace(RECIPE, num_workers=num_workers)
    return dataclasses.replace(CONFIG, training=recipe, augmentation=AUGMENTATION)


def run(root, out, num_workers=0, begun=None):
    """Begins the run or goes on."""
    torch.set_num_threads(1)  # as the tests' process: sums over more threads round otherwise
    sets = dataset(root), dataset(root, "synth_val").select([0, 4])
    if begun is not None:
        begun.set()
    return train(config(num_workers), sets[0], Path(out), held_out=sets[1], resume=True)


def start(root, out, num_workers):
    """The same in a process of its own, once it is about to train."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    begun = context.Event()
    process = context.Process(target=_run_alone, args=(root, str(out), num_workers, begun))
    process.start()
    assert begun.wait(600)
    return process


def _run_alone(*arguments):
    """Its loader's workers are forked, as those of a program: they end with it when it is killed.

    Those of a forkserver, which this process would hand on to them, see the forkserver live on.
    """
    multiprocessing.set_start_method("fork", force=True)
    run(*arguments)
