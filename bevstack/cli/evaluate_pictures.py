"""The part of ``bevstack evaluate`` that scores lights and signs in labelled single pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.evaluate_tables import format_figure
from bevstack.cli.pictures_option import add_pictures
from bevstack.file_bytes import read_bytes

if TYPE_CHECKING:
    from bevstack.evaluation.analysis.bootstrap import Interval
    from bevstack.evaluation.traffic.picture_scores import AttributeScore


def add_picture_scores(parser: argparse.ArgumentParser) -> None:
    """Declare ``--pictures``, ``--fold`` and ``--elements``."""
    group = parser.add_argument_group("lights and signs in single pictures, instead of boxes")
    add_pictures(group, purpose="score", many=False)
    group.add_argument(
        "--elements",
        type=Path,
        metavar="FILE",
        help="predictions of `bevstack predict --images DIR`; needs --pictures and --out",
    )


def run_pictures(args: argparse.Namespace) -> int:
    """Score ``--elements`` beside the colour-blob rule; print a table, write the metrics.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: an option is missing or given in vain, or a file is malformed.
        OSError: the metrics cannot be written.
    """
    from bevstack.cli.pictures_option import open_sets, parse_fold
    from bevstack.datasets.traffic_view.pictures import split_fold
    from bevstack.evaluation.traffic.picture_scores import (
        score_pictures,
        write_picture_metrics,
    )
    from bevstack.tables.picture_elements import read_picture_elements
    from bevstack.tasks.traffic_pictures import color_blobs_of

    _check(args)
    predicted = read_picture_elements(args.elements)
    (pictures,) = open_sets(args.pictures)
    if args.fold is not None:
        _, pictures = split_fold(pictures, *parse_fold(args.fold))
    rule = color_blobs_of(pictures)
    scores = score_pictures(pictures.images, predicted, rule, pictures.groups, draws=args.draws)
    path = write_picture_metrics(args.out, scores, pictures.name)
    if args.json:
        print(read_bytes(path, "metrics").decode())
    else:
        print_picture_scores(scores, len(pictures.images), len(set(pictures.groups)))
        print(f"metrics: {path}")
    return 0


def print_picture_scores(
    scores: tuple[AttributeScore, ...], num_pictures: int, num_groups: int
) -> None:
    """Print average precision by attribute, of the model and of the rule, with intervals."""
    from bevstack.cli.tables import print_table
    from bevstack.evaluation.analysis.bootstrap import FEWEST_SCENES
    from bevstack.training.progress_bar import make_console

    console = make_console()
    titles = ("attribute", "true", "groups", "AP", "95 %", "colour blobs", "95 %", "difference")
    rows = [
        (
            score.attribute,
            str(score.num_truth),
            str(score.num_groups),
            format_figure(score.model.value),
            _bounds(score.model),
            format_figure(score.rule.value),
            _bounds(score.rule),
            _bounds(score.difference),
        )
        for score in scores
    ]
    print_table(console, titles, rows)
    console.print(f"{num_pictures} pictures in {num_groups} groups of one photo or place")
    few = [s.attribute for s in scores if s.num_groups < FEWEST_SCENES]
    if few:
        console.print(
            f"note: fewer than {FEWEST_SCENES} groups are too few for reliable intervals: "
            f"{', '.join(few)}"
        )


def _bounds(interval: Interval) -> str:
    return f"{format_figure(interval.low)} to {format_figure(interval.high)}"


def _check(args: argparse.Namespace) -> None:
    for option in ("pictures", "elements", "out"):
        if getattr(args, option) is None:
            raise ValueError(f"--{option} must be given to score single pictures; got none")
    if len(args.pictures) > 1:
        raise ValueError(f"--pictures must be given once; got {len(args.pictures)} sets")
    options = ("results", "file", "nuscenes", "version", "split", "scene", "against", "truth")
    vain = [f"--{name}" for name in options if getattr(args, name)]
    if vain:
        raise ValueError(f"{vain[0]} must be left out with --pictures; got both")
