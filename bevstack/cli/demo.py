"""Makes a small synthetic world, trains a model on it, scores it and draws what it found.

Takes some minutes on two processor cores and needs no data set and no GPU. Writes the model, the
metrics, the learning curve and pictures of predicted and true boxes into one folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack demo``."""
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few steps on a few scenes: shows that everything runs, not that it learns",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Runs the demo."""
    raise NotImplementedError
