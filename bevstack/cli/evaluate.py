"""Score a results file with the nuScenes detection metric: mAP, the five errors and NDS.

The scores equal those of nuscenes-devkit 1.2 to the last bit and take seconds; the devkit is not
needed. The command writes metrics_summary.json and metrics_details.json in the devkit's format.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.evaluation.scoring import Scored
    from bevstack.tables.reader import Tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack evaluate``."""
    parser.add_argument("file", nargs="?", type=Path, help="results file, instead of --results")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="results file of `bevstack predict`: .json, or .safetensors with columns",
    )
    parser.add_argument(
        "--nuscenes",
        "--dataroot",
        type=Path,
        required=True,
        metavar="ROOT",
        help="folder of the data set",
    )
    parser.add_argument("--version", required=True, help="folder of the tables, e.g. v1.0-mini")
    scenes = parser.add_mutually_exclusive_group(required=True)
    scenes.add_argument("--split", help="split to score, e.g. mini_val")
    scenes.add_argument("--scene", action="append", help="scene to score; may be repeated")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the metrics (default: the folder of the results)",
    )
    parser.add_argument(
        "--per-class", action="store_true", help="also print the scores of each class"
    )
    parser.add_argument(
        "--groups",
        action="store_true",
        help="also print scores by range, visibility, camera, motion, light and weather",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="compare with another results file of the same samples: differences with intervals",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="also write report.html with plots, groups, intervals and calibration",
    )
    parser.add_argument(
        "--draws",
        type=int,
        default=1000,
        metavar="N",
        help="number of random draws of scenes for each interval (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print only the summary, as JSON")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="check the results like the devkit, which accepts negative scores and infinite values",
    )


def run(args: argparse.Namespace) -> int:
    """Score the results; print the tables and the paths of the written files.

    Raises:
        FileNotFoundError: the results file, the data set or its version does not exist.
        ValueError: results that are not of the format or lack samples, or no such split or scene.
        OSError: the metrics cannot be written.
    """
    from bevstack.evaluation.scoring import SUMMARY_NAME, load, score, write_metrics
    from bevstack.tables.reader import Tables

    if (args.file is None) == (args.results is None):
        given = [str(path) for path in (args.file, args.results) if path is not None]
        raise ValueError(f"one results file must be given; got {' and '.join(given) or 'none'}")
    args.results = args.results or args.file
    out = args.out or args.results.parent
    tables = Tables(args.nuscenes, args.version)
    split = args.split or args.scene
    scored, other = (
        path and score(load(path, tables, split, strict=args.strict), strict=args.strict)
        for path in (args.results, args.against)
    )
    write_metrics(out, scored)
    if args.json:
        print((out / SUMMARY_NAME).read_text(encoding="utf-8"))
    else:
        _print_scores(args, scored)
    _analyse(args, tables, scored, other, out)
    if not args.json:
        print(f"metrics: {out / SUMMARY_NAME}")
    return 0


def _analyse(
    args: argparse.Namespace, tables: Tables, scored: Scored, other: Scored | None, out: Path
) -> None:
    """Print the comparison and groups and write the report, as far as the options ask for them."""
    from bevstack.cli.evaluate_tables import print_comparison, print_groups
    from bevstack.training.progress_bar import make_console

    comparison = None
    if other is not None:
        from bevstack.evaluation.analysis.analysis import compare

        comparison = (args.against.name, compare(scored, other, tables, draws=args.draws))
        if not args.json:
            print_comparison(make_console(), args.results.name, *comparison)
            _warn_if_few_scenes(scored, tables)
    if not (args.groups or args.report):
        return
    from bevstack.evaluation.analysis.analysis import analyse

    analysis = analyse(scored, tables, draws=args.draws)
    if args.groups and not args.json:
        print_groups(make_console(), analysis.groups)
    if args.report:
        from bevstack.evaluation.analysis.report import write_report

        path = write_report(out, analysis, title=args.results.name, comparison=comparison)
        if not args.json:
            print(f"report: {path}")


def _warn_if_few_scenes(scored: Scored, tables: Tables) -> None:
    from bevstack.evaluation.analysis.bootstrap import FEWEST_SCENES

    count = len(set(tables.samples.scene[scored.loaded.samples].tolist()))
    if count < FEWEST_SCENES:
        print(f"note: {count} scenes are too few for reliable intervals")


def _print_scores(args: argparse.Namespace, scored: Scored) -> None:
    from bevstack.cli.evaluate_tables import print_class_table, print_devkit_table
    from bevstack.training.progress_bar import make_console

    console = make_console()
    if console.is_terminal:
        print_class_table(console, args.results.name, scored)
    else:
        print_devkit_table(scored.metrics, scored.seconds, per_class=args.per_class)
    if scored.metrics.no_predictions:
        print("note: the results hold no predicted box, so the scores are 0 by definition")
