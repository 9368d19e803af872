"""The part of ``bevstack evaluate`` that scores traffic lights and signs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.evaluate_tables import format_figure
from bevstack.file_bytes import read_bytes

if TYPE_CHECKING:
    from bevstack.evaluation.traffic.openlane_score import OpenLaneScores
    from bevstack.evaluation.traffic.root_figures import RootMatches
    from bevstack.evaluation.traffic.root_score import TrafficComparison, TrafficScores
    from bevstack.evaluation.traffic.root_truth import RootTruth


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


def add_traffic(parser: argparse.ArgumentParser) -> None:
    """Declare ``--traffic``."""
    parser.add_argument(
        "--traffic",
        type=Path,
        metavar="FILE",
        help="score traffic lights, signs and cues instead of boxes: elements.json or cues.json of "
        "`bevstack predict`; needs --nuscenes, --version, --split or --scene, and --out; --against "
        "compares with another such file",
    )


def run_traffic(args: argparse.Namespace) -> int:
    """Score the elements and cues of ``--traffic``; print tables, write ``traffic_metrics.json``.

    Raises:
        FileNotFoundError: a file or table does not exist.
        ValueError: an option is missing, the file is malformed, or it lacks samples of the split.
        OSError: the metrics cannot be written.
    """
    from bevstack.evaluation.traffic.root_figures import match_root
    from bevstack.evaluation.traffic.root_score import score_matches, write_traffic_metrics
    from bevstack.evaluation.traffic.root_truth import read_root_truth
    from bevstack.evaluation.traffic.traffic_frames import read_traffic_frames
    from bevstack.tables.reader import Tables

    _check_traffic(args)
    file = read_traffic_frames(args.traffic)
    tables = Tables(args.nuscenes, args.version, classes=args.classes)
    truth = read_root_truth(tables, args.split or args.scene)
    matches = match_root(file, truth)
    comparison = None if args.against is None else _compare(args, matches, truth)
    scores = score_matches(matches, len(truth.tokens), draws=args.draws)
    path = write_traffic_metrics(args.out, scores, comparison)
    if args.json:
        print(read_bytes(path, "metrics").decode())
    else:
        print_traffic(scores)
        if comparison is not None:
            _print_comparison(args, comparison)
        print(f"metrics: {path}")
    return 0


def _check_traffic(args: argparse.Namespace) -> None:
    for option in ("nuscenes", "version", "out"):
        if getattr(args, option) is None:
            raise ValueError(f"--{option} must be given with --traffic; got none")
    if not (args.split or args.scene):
        raise ValueError("--split or --scene must be given with --traffic; got none")
    if args.results or args.file:
        raise ValueError("--traffic must be given without results of boxes; got both")
    if args.against is not None and args.draws < 1:
        raise ValueError(f"--draws must be at least 1 with --against; got {args.draws}")


def _compare(args: argparse.Namespace, matches: RootMatches, truth: RootTruth) -> TrafficComparison:
    """Compare the file of ``--against`` with the scored one."""
    from bevstack.evaluation.traffic.root_figures import compare_roots, match_root
    from bevstack.evaluation.traffic.root_score import TrafficComparison
    from bevstack.evaluation.traffic.traffic_frames import read_traffic_frames

    other = match_root(read_traffic_frames(args.against), truth)
    differences = compare_roots(matches, other, draws=args.draws)
    return TrafficComparison(file=args.against.name, differences=differences)


def _print_comparison(args: argparse.Namespace, comparison: TrafficComparison) -> None:
    from bevstack.cli.evaluate_tables import print_comparison
    from bevstack.training.progress_bar import make_console

    console = make_console()
    console.print()
    print_comparison(console, args.traffic.name, comparison.file, comparison.differences)


def print_traffic(scores: TrafficScores) -> None:
    """Print average precision by attribute and height, the cues' scores, and intervals."""
    from bevstack.cli.tables import print_table
    from bevstack.evaluation.analysis.bootstrap import FEWEST_SCENES
    from bevstack.training.progress_bar import make_console
    from bevstack.vocabulary import TRAFFIC_ELEMENT_ATTRIBUTES

    console = make_console()
    ranges = scores.elements.by_height
    titles = ("attribute", "AP", "true", *(f"{bounds.name} px" for bounds, _ in ranges))
    lines = [
        (
            TRAFFIC_ELEMENT_ATTRIBUTES[p.attribute],
            format_figure(p.value),
            str(p.num_truth),
            *(format_figure(some[p.attribute].value) for _, some in ranges),
        )
        for p in scores.elements.attributes
    ]
    print_table(console, titles, lines)
    console.print()
    print_table(console, ("score", "value"), _figures(scores))
    if scores.intervals:
        console.print()
        rows = [
            (i.name, format_figure(i.value), f"{format_figure(i.low)} to {format_figure(i.high)}")
            for i in scores.intervals
        ]
        print_table(console, ("figure", "value", "95 % of draws"), rows)
    if scores.num_scenes < FEWEST_SCENES:
        console.print(
            f"note: {scores.num_scenes} scenes are too few for reliable intervals; "
            f"{FEWEST_SCENES} are needed"
        )


def _figures(scores: TrafficScores) -> list[tuple[str, str]]:
    """Return the names and values of the single figures."""
    from bevstack.evaluation.traffic.element_scores import color_accuracy, macro

    elements = scores.elements
    figures = [
        ("DET_t, all 13 attributes", elements.det_t),
        ("macro AP, attributes with true elements", macro(list(elements.attributes))),
        ("macro AP of signs from 10 px", macro(list(elements.signs))),
        ("colour given a match, from 6 px", color_accuracy(elements.confusion)),
        ("speed limit given a match, from 16 px", elements.numbers.accuracy),
    ]
    if scores.states and scores.relevance and scores.advice:
        figures += [
            (f"state accuracy over {scores.states.element_s:.1f} s", scores.states.accuracy),
            (
                f"the same, lamps never shown included, {scores.states.in_sight_s:.1f} s",
                scores.states.accuracy_in_sight,
            ),
            (
                f"false green per red second, {scores.states.red_s:.1f} s",
                scores.states.false_green_per_red_s,
            ),
            ("delay to red, median, s", scores.states.red_delay_median_s),
            ("delay to green, median, s", scores.states.green_delay_median_s),
            ("flashing or steady", scores.states.flashing_accuracy),
            (
                f"relevant light chosen, {scores.relevance.num_moments} moments",
                scores.relevance.choice_accuracy,
            ),
            (
                f"go or stop given, {scores.advice.known_s:.1f} s known",
                scores.advice.given_share,
            ),
            (
                f"right one of both, {scores.advice.go_or_stop_due_s:.1f} s red or green",
                scores.advice.right_share,
            ),
            ("unknown where the state is known", scores.advice.unknown_share),
            ("go per red second", scores.advice.false_go_per_red_s),
        ]
    figures += [
        (f"distance error at {e.low_m:g}-{e.high_m:g} m, {e.count} lights", e.median_relative)
        for e in scores.distances
        if e.count
    ]
    return [(name, format_figure(value)) for name, value in figures]


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
        print(read_bytes(path, "metrics").decode())
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
