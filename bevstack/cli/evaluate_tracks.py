"""The part of ``bevstack evaluate`` that scores tracks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bevstack.file_bytes import read_bytes

if TYPE_CHECKING:
    from bevstack.evaluation.tracking.tracking_scoring import ScoredTracks

# Figures of the table, with the number of digits.
_COLUMNS = (
    *(("amota", 4), ("amotp", 4), ("motar", 4), ("recall", 4), ("mota", 4), ("motp", 4)),
    *(("tp", 0), ("fp", 0), ("fn", 0), ("ids", 0), ("frag", 0), ("mt", 0), ("ml", 0)),
    *(("faf", 1), ("tid", 2), ("lgd", 2)),
)


def add_tracking(parser: argparse.ArgumentParser) -> None:
    """Declare ``--tracking``."""
    parser.add_argument(
        "--tracking",
        action="store_true",
        help="score tracks with the tracking metric (AMOTA): the results are the --tracks file of "
        "`bevstack predict --track`",
    )


def run_tracking(args: argparse.Namespace) -> int:
    """Score the tracks of ``--results``; print a table and write the metrics.

    Raises:
        FileNotFoundError: the file, the data set or its version does not exist.
        FileExistsError: the folder holds the metrics of another results file.
        ValueError: an option does not fit, the file is not of the format or lacks samples, or there
            is no such split or scene.
        OSError: the metrics cannot be written.
    """
    from bevstack.evaluation.tracking.tracking_scoring import (
        check_tracking_owner,
        load_tracks,
        score_tracks,
        write_tracking_metrics,
    )
    from bevstack.tables.reader import Tables

    _check_input(args)
    results = args.results or args.file
    out = args.out or results.parent
    check_tracking_owner(out, results)
    tables = Tables(args.nuscenes, args.version, classes=args.classes)
    scored = score_tracks(
        load_tracks(results, tables, args.split or args.scene, strict=args.strict)
    )
    summary = write_tracking_metrics(out, scored, results=results)
    if args.json:
        print(read_bytes(summary, "metrics").decode())
    else:
        print_tracking(scored)
        print(f"metrics: {summary}")
    return 0


def print_tracking(scored: ScoredTracks) -> None:
    """Print the figures over all classes and those of each class."""
    from bevstack.cli.tables import print_table
    from bevstack.evaluation.tracking.tracking_scoring import more_figures
    from bevstack.training.progress_bar import make_console

    console = make_console()
    rows = {"all": scored.metrics.figures()}
    rows |= {scores.name: scores.summary() for scores in scored.metrics.classes}
    titles = ("", *(name.upper() for name, _ in _COLUMNS))
    lines = [
        (name, *(_format(figures[figure], digits) for figure, digits in _COLUMNS))
        for name, figures in rows.items()
    ]
    print_table(console, titles, lines)
    more = more_figures(scored)
    console.print(
        f"{more['ids_per_100_m']:.2f} identity switches and {more['frag_per_100_m']:.2f} fragments "
        f"per 100 m over {more['driven_m']:.0f} m; scored in {scored.seconds:.2f} s"
    )
    if scored.metrics.no_predictions:
        console.print("note: no box of the results counts, so AMOTA is 0 by definition")


def _format(value: float, digits: int) -> str:
    """Return a figure, or a dash for NaN: the class has no true box, or nothing matches."""
    return "-" if value != value else f"{value:.{digits}f}"


def _check_input(args: argparse.Namespace) -> None:
    for option in ("nuscenes", "version"):
        if getattr(args, option) is None:
            raise ValueError(f"--{option} must be given with --tracking; got none")
    if (args.file is None) == (args.results is None):
        given = [str(path) for path in (args.file, args.results) if path is not None]
        raise ValueError(f"one results file must be given; got {' and '.join(given) or 'none'}")
    if not (args.split or args.scene):
        raise ValueError("--split or --scene must be given with --tracking; got none")
    for option in ("against", "groups", "report", "only_predicted", "per_class", "truth"):
        if getattr(args, option):
            name = "--" + option.replace("_", "-")
            raise ValueError(f"--tracking must be given without {name}; got both")
