"""Scores a results file with nuscenes-devkit's own detection metric: mAP, the five errors, NDS.

Needs the extra [nuscenes].
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack evaluate``."""
    parser.add_argument("results", type=Path, help="results file, as `bevstack predict` writes it")
    parser.add_argument(
        "--nuscenes", type=Path, required=True, metavar="ROOT", help="folder of the data set"
    )
    parser.add_argument("--version", required=True, help="folder of its tables, e.g. v1.0-mini")
    parser.add_argument("--split", required=True, help="scenes to score, e.g. mini_val")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the metrics; default: beside results"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the evaluation."""
    raise NotImplementedError
