"""Scores a results file with nuscenes-devkit's own detection metric: mAP, the five errors, NDS.

Needs the extra [nuscenes].
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack evaluate``."""
    parser.add_argument(
        "--results",
        type=Path,
        required=True,
        metavar="FILE",
        help="results file, as `bevstack predict` writes it",
    )
    parser.add_argument(
        "--nuscenes", type=Path, required=True, metavar="ROOT", help="folder of the data set"
    )
    parser.add_argument("--version", required=True, help="folder of its tables, e.g. v1.0-mini")
    scenes = parser.add_mutually_exclusive_group(required=True)
    scenes.add_argument("--split", help="scenes to score, e.g. mini_val")
    scenes.add_argument("--scene", action="append", help="one scene; may be repeated")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the metrics; default: beside results"
    )
    parser.add_argument("--per-class", action="store_true", help="print every class too")


def run(args: argparse.Namespace) -> int:
    """Scores, prints the table and says where the metrics are."""
    from bevstack.evaluation.devkit import SUMMARY_NAME, evaluate_with_devkit
    from bevstack.evaluation.metrics import format_table

    out = args.out or args.results.parent
    scenes = args.split or args.scene
    metrics = evaluate_with_devkit(args.results, args.nuscenes, args.version, scenes, out)
    print(format_table([(args.results.name, metrics)], per_class=args.per_class))
    print(f"metrics: {out / SUMMARY_NAME}")
    return 0
