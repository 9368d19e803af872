"""Trainings of tiny tasks, alone and with detection; as a program, to be killed."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch

from bevstack.tasks.detection3d import Detection3D
from bevstack.tasks.joint import JointPart, JointTask
from bevstack.training import train
from bevstack.training.processes import join_processes, leave_processes
from tests.small_world import CONFIG, dataset
from tests.tasks.tiny import PictureTask, RoleTask

BACKBONE = CONFIG.backbone


def recipe(batch_size, **changes):
    fields = {"num_steps": 6, "checkpoint_every": 2, "ema_decay": 0.5, "learning_rate": 3e-3}
    return dataclasses.replace(CONFIG.training, batch_size=batch_size, **{**fields, **changes})


def tiny_alone(**changes):
    settings = recipe(4, **changes)
    return JointTask([JointPart(task=PictureTask(BACKBONE, settings), num_samples=4)], settings)


def together(root, held_out=None, num_pictures=2, **changes):
    """Detection on its root, camera roles on the same samples, pictures of their own."""
    settings = recipe(2 + num_pictures, **changes)
    detection = Detection3D(CONFIG, dataset(root), held_out=held_out)
    return JointTask(
        [
            JointPart(task=detection, num_samples=2),
            JointPart(task=RoleTask(BACKBONE, settings), weight=0.5, same_samples_as="detection3d"),
            JointPart(task=PictureTask(BACKBONE, settings), weight=2.0, num_samples=num_pictures),
        ],
        settings,
    )


def main(kind, root, out):
    torch.set_num_threads(1)
    processes = join_processes()
    if kind == "alone":
        task = tiny_alone(num_steps=40)
    elif kind == "together":
        task = together(root)
    else:  # two processes, of which one has no picture
        task = together(root, num_pictures=1, num_steps=2, ema_decay=0.0)
    train(task, Path(out), resume=True, processes=processes)
    leave_processes()


if __name__ == "__main__":
    main(*sys.argv[1:])
