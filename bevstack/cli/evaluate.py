"""Score a results file with the nuScenes detection metric: mAP, the five errors and NDS.

The scores equal those of nuscenes-devkit 1.2 to the last bit and take seconds; the devkit is not
needed. The command writes metrics_summary.json and metrics_details.json in the devkit's format.
With --tracking it scores tracks by AMOTA, also as the devkit does.
With --corruptions it predicts with the given weights, under corrupted images, and scores that.
With --coco it scores boxes and masks of objects in pictures by COCO's average precision.
With --ade20k, --cityscapes or --dense it scores labels of pixels by mean IoU: a folder of label
maps, or what --weights predict.
With --imagenet it scores the classes that --classifier predicts, by top-1 and top-5.
With --openlane it scores lanes, lights, signs and their topology as OpenLane-V2 does.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.classify_tasks import add_classifier, add_imagenet, run_imagenet
from bevstack.cli.evaluate_corruptions import add_corruptions, run_corruptions
from bevstack.cli.evaluate_labels import add_label_scores, run_labels, scores_labels
from bevstack.cli.evaluate_pictures import add_picture_scores, run_pictures
from bevstack.cli.evaluate_tracks import add_tracking, run_tracking
from bevstack.cli.evaluate_traffic import (
    add_openlane,
    add_traffic,
    run_openlane,
    run_traffic,
)
from bevstack.cli.options import add_classes, add_scenes, rename_options
from bevstack.cli.picture_tasks import add_coco
from bevstack.cli.picture_tasks import run_evaluate as run_coco
from bevstack.file_bytes import read_bytes

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
        type=Path,
        metavar="ROOT",
        help="folder of the data set",
    )
    parser.add_argument("--version", help="folder of the tables, e.g. v1.0-mini")
    add_scenes(parser, required=False, purpose="score")
    parser.add_argument(
        "--only-predicted",
        action="store_true",
        help="score only the samples that the results hold, which the metrics file then states; "
        "needs no --split or --scene",
    )
    add_classes(parser)
    add_tracking(parser)
    add_openlane(parser)
    add_traffic(parser)
    add_picture_scores(parser)
    add_corruptions(parser)
    add_coco(parser, purpose="score on")
    add_label_scores(parser)
    add_classifier(parser)
    add_imagenet(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the metrics (default: the folder of the results); one that holds the "
        "metrics of another results file is refused",
    )
    rename_options(parser, {"--dataroot": "--nuscenes"})
    _add_analyses(parser)


def _add_analyses(parser: argparse.ArgumentParser) -> None:
    """Declare what else is computed and printed."""
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
        FileExistsError: the folder holds the metrics of another results file.
        ValueError: results that are not of the format or lack samples, or no such split or scene.
        OSError: the metrics cannot be written.
    """
    if args.imagenet is not None:
        return run_imagenet(args)
    if args.classifier is not None:
        raise ValueError("--imagenet ROOT must be given with --classifier; got none")
    if scores_labels(args):
        return run_labels(args)
    if args.coco is not None:
        return run_coco(args)
    if args.openlane is not None:
        return run_openlane(args)
    if args.corruptions is not None:
        return run_corruptions(args)
    if args.pictures is not None or args.elements is not None:
        return run_pictures(args)
    if args.traffic is not None:
        return run_traffic(args)
    if args.tracking:
        return run_tracking(args)
    from bevstack.evaluation.metrics_source import check_owner, write_metrics_of
    from bevstack.tables.reader import Tables

    _check_input(args)
    out = args.out or args.results.parent
    check_owner(out, args.results)
    tables = Tables(args.nuscenes, args.version, classes=args.classes)
    scored = _score(args, args.results, tables)
    other = None if args.against is None else _score(args, args.against, tables)
    _check_same_samples(args, scored, other)
    check_owner(out, args.results, scored.metrics)
    summary = write_metrics_of(
        args.results,
        scored,
        out,
        scenes=args.split or args.scene,
        only_predicted=args.only_predicted,
    )
    if args.json:
        print(read_bytes(summary, "metrics").decode())
    else:
        _print_scores(args, scored)
    _analyse(args, tables, scored, other, out)
    if not args.json:
        print(f"metrics: {summary}")
    return 0


def _check_input(args: argparse.Namespace) -> None:
    """Check the options that depend on each other; afterwards ``--results`` is set."""
    if args.truth is not None:
        raise ValueError("--truth must be given with --openlane; got no --openlane")
    for option in ("weights", "reference", "as_published", "health", "mirror", "track"):
        if getattr(args, option):
            name = "--" + option.replace("_", "-")
            raise ValueError(f"{name} must be given with --corruptions; got no --corruptions")
    if args.precision != "float32":
        raise ValueError("--precision must be given with --corruptions; got no --corruptions")
    for option in ("nuscenes", "version"):
        if getattr(args, option) is None:
            raise ValueError(f"--{option} must be given; got none")
    if (args.file is None) == (args.results is None):
        given = [str(path) for path in (args.file, args.results) if path is not None]
        raise ValueError(f"one results file must be given; got {' and '.join(given) or 'none'}")
    args.results = args.results or args.file
    if not (args.split or args.scene or args.only_predicted):
        raise ValueError("--split, --scene or --only-predicted must be given; got none")
    if args.against is not None and args.draws < 1:
        raise ValueError(f"--draws must be at least 1 with --against; got {args.draws}")


def _score(args: argparse.Namespace, results: Path, tables: Tables) -> Scored:
    from bevstack.evaluation.scoring import load, score

    loaded = load(
        results,
        tables,
        args.split or args.scene,
        strict=args.strict,
        only_predicted=args.only_predicted,
    )
    return score(loaded, strict=args.strict)


def _check_same_samples(args: argparse.Namespace, scored: Scored, other: Scored | None) -> None:
    """Check that both results files hold the same samples, as ``--only-predicted`` does not."""
    if other is None or not args.only_predicted:
        return
    ours, theirs = scored.loaded.samples.tolist(), other.loaded.samples.tolist()
    if ours != theirs:
        raise ValueError(
            "--against must hold the same samples with --only-predicted; got "
            f"{len(ours)} samples in {args.results.name}, {len(theirs)} in {args.against.name} and "
            f"{len(set(ours) & set(theirs))} in both: name scenes of both with --scene"
        )


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


def _print_scores(args: argparse.Namespace, scored: Scored) -> None:
    from bevstack.cli.evaluate_tables import print_class_table, print_devkit_table
    from bevstack.evaluation.unscored import note_on_range
    from bevstack.training.progress_bar import make_console

    console = make_console()
    if console.is_terminal:
        print_class_table(console, args.results.name, scored)
    else:
        print_devkit_table(scored.metrics, scored.seconds, per_class=args.per_class)
    if scored.metrics.no_predictions:
        print("note: the results hold no predicted box, so the scores are 0 by definition")
    if args.only_predicted:
        print(
            f"note: only the {len(scored.loaded.samples)} samples of the results are scored; such "
            "scores are not comparable with those of other samples"
        )
    note = note_on_range(scored.loaded.submission.boxes, scored.loaded.truth)
    if note is not None:
        print(f"note: {note}")
