"""Scores a results file with the nuScenes detection metric: mAP, the five errors, NDS.

The figures are those of nuscenes-devkit 1.2 to the last bit, in seconds and without it. Writes
metrics_summary.json and metrics_details.json in the devkit's own form.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.evaluation.scoring import Scored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack evaluate``."""
    parser.add_argument(
        "--results",
        type=Path,
        required=True,
        metavar="FILE",
        help="results file, as `bevstack predict` writes it: .json, or .safetensors with columns",
    )
    parser.add_argument(
        "--nuscenes",
        "--dataroot",
        type=Path,
        required=True,
        metavar="ROOT",
        help="folder of the data set",
    )
    parser.add_argument("--version", required=True, help="folder of its tables, e.g. v1.0-mini")
    scenes = parser.add_mutually_exclusive_group(required=True)
    scenes.add_argument("--split", help="scenes to score, e.g. mini_val")
    scenes.add_argument("--scene", action="append", help="one scene; may be repeated")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the metrics; default: beside results"
    )
    parser.add_argument("--per-class", action="store_true", help="print every class too")
    parser.add_argument(
        "--json", action="store_true", help="print the summary as JSON and nothing else"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="accept and refuse what the devkit does: negative scores, infinite values",
    )


def run(args: argparse.Namespace) -> int:
    """Scores, prints the table and says where the metrics are."""
    from bevstack.evaluation.scoring import SUMMARY_NAME, load, score, write_metrics
    from bevstack.tables.reader import Tables

    out = args.out or args.results.parent
    tables = Tables(args.nuscenes, args.version)
    scored = score(
        load(args.results, tables, args.split or args.scene, strict=args.strict),
        strict=args.strict,
    )
    write_metrics(out, scored)
    if args.json:
        print((out / SUMMARY_NAME).read_text(encoding="utf-8"))
        return 0
    _print_scores(args, scored)
    print(f"metrics: {out / SUMMARY_NAME}")
    return 0


def _print_scores(args: argparse.Namespace, scored: Scored) -> None:
    from bevstack.cli.evaluate_tables import print_class_table, print_devkit_table
    from bevstack.cli.progress import make_console

    console = make_console()
    if console.is_terminal:
        print_class_table(console, args.results.name, scored)
    else:
        print_devkit_table(scored.metrics, scored.seconds, per_class=args.per_class)
    if scored.metrics.no_predictions:
        print("note: there is not one predicted box, which scores 0 by definition")
