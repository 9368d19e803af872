"""The part of ``bevstack evaluate`` that scores traffic lights and signs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.evaluate_tables import format_figure

if TYPE_CHECKING:
    from bevstack.evaluation.traffic.openlane_score import OpenLaneScores


def add_openlane(parser: argparse.ArgumentParser) -> None:
    """Declare ``--openlane`` and ``--truth``."""
    parser.add_argument(
        "--openlane",
        type=Path,
        metavar="RESULTS",
        help="score lanes, traffic elements and their topology as OpenLane-V2 does, instead of "
        "boxes: a JSON file of predicted frames; needs --truth and --out",
    )
    parser.add_argument(
        "--truth", type=Path, metavar="FILE", help="JSON file of the true frames for --openlane"
    )


def run_openlane(args: argparse.Namespace) -> int:
    """Score the frames of ``--openlane``; print a table and write ``openlane_scores.json``.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: an option is missing or given in vain, a file is malformed, or both hold
            different frames.
        OSError: the scores cannot be written.
    """
    from bevstack.evaluation.traffic.openlane_file import (
        read_openlane_frames,
        write_openlane_scores,
    )
    from bevstack.evaluation.traffic.openlane_score import score_openlane

    _check_openlane(args)
    truth = read_openlane_frames(args.truth, predicted=False)
    predictions = read_openlane_frames(args.openlane, predicted=True)
    scores = score_openlane(truth, predictions)
    path = write_openlane_scores(args.out, scores)
    if args.json:
        print(path.read_text(encoding="utf-8"))
    else:
        _print_openlane(scores)
        print(f"scores: {path}")
    return 0


def _check_openlane(args: argparse.Namespace) -> None:
    for option in ("truth", "out"):
        if getattr(args, option) is None:
            raise ValueError(f"--{option} must be given with --openlane; got none")
    vain = [
        f"--{option.replace('_', '-')}"
        for option in ("results", "file", "nuscenes", "version", "split", "scene", "against")
        if getattr(args, option)
    ]
    if vain:
        raise ValueError(f"--openlane must be given with --truth and --out alone; got {vain[0]}")


def _print_openlane(scores: OpenLaneScores) -> None:
    """Print the average precisions of the attributes with their counts, then the scores."""
    from bevstack.cli.tables import print_table
    from bevstack.training.progress_bar import make_console
    from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES

    console = make_console()
    columns = (scores.attribute_precision, scores.num_truth, scores.num_predictions)
    rows = [
        (name, format_figure(precision), str(truth), str(predicted))
        for name, precision, truth, predicted in zip(
            TRAFFIC_ELEMENT_ATTRIBUTES, *columns, strict=True
        )
    ]
    print_table(console, ("attribute", "AP", "true", "predicted"), rows)
    absent = scores.num_truth.count(0)
    figures = [
        ("DET_l", scores.det_l, f"{scores.num_lanes} true lanes"),
        ("DET_t", scores.det_t, f"all 13 attributes; {absent} have no true element"),
        ("macro AP", scores.macro_precision, "attributes with true elements"),
        ("TOP_ll", scores.top_ll, ""),
        ("TOP_lt", scores.top_lt, ""),
        ("OLS", scores.ols, f"{scores.num_frames} frames"),
    ]
    console.print()
    lines = [(name, note, format_figure(value)) for name, value, note in figures]
    print_table(console, ("score", "", "value"), lines, text_columns=2)
