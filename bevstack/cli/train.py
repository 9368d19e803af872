"""Trains a configuration on a data set in nuScenes' format and writes checkpoints.

Run it under `torchrun` to use several processes. After an interruption the same command with
--resume goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack train``."""
    parser.add_argument(
        "--config", required=True, help="name of a packaged configuration, or a file"
    )
    parser.add_argument(
        "--nuscenes", type=Path, required=True, metavar="ROOT", help="folder of the data set"
    )
    parser.add_argument("--version", required=True, help="folder of its tables, e.g. v1.0-mini")
    parser.add_argument("--split", required=True, help="scenes to train on, e.g. mini_train")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the checkpoints"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in --out"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Runs the training."""
    raise NotImplementedError
