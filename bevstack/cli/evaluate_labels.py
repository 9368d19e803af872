"""The part of ``bevstack evaluate`` that scores labels of pixels by mean IoU."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.evaluate_tables import format_figure
from bevstack.cli.label_data import (
    LABEL_DATA,
    add_label_data,
    add_ratios,
    label_data_option,
    open_label_data,
)
from bevstack.cli.label_tasks import refuse_options

if TYPE_CHECKING:
    from bevstack.evaluation.segmentation.iou import LabelScores

_OTHER = (
    *("nuscenes", "scene", "tracking", "openlane", "traffic", "pictures", "elements", "coco"),
    *("corruptions", "against", "truth", "groups", "report", "only_predicted", "classes", "health"),
    *("track", "reference", "as_published"),
)


def add_label_scores(parser: argparse.ArgumentParser) -> None:
    """Declare the options of data sets with labelled pixels."""
    add_label_data(parser, purpose="score on")
    add_ratios(parser)


def scores_labels(args: argparse.Namespace) -> bool:
    """Return True if a data set with labelled pixels is given."""
    return any(getattr(args, name) is not None for name in LABEL_DATA)


def run_labels(args: argparse.Namespace) -> int:
    """Score a folder of label maps, or what ``--weights`` predict; print the figures.

    Raises:
        FileNotFoundError: the data set, a label map or the weights do not exist.
        ValueError: options or files that do not fit.
        OSError: the metrics cannot be written.
    """
    from bevstack.files import write_text_atomically
    from bevstack.tasks.segmentation_held_out import score_figures

    option = f"--{label_data_option(args)}"
    refuse_options(args, _OTHER, option)
    results: Path | None = args.results or args.file
    if (results is None) == (args.weights is None):
        got = "none" if results is None else "both"
        raise ValueError(
            f"--results DIR of label maps or --weights FILE must be given with {option}; got {got}"
        )
    if args.split is None:
        raise ValueError(f"--split must be given with {option}; got none")
    if results is None:
        if args.out is None:
            raise ValueError("--out DIR must be given with --weights; got none")
        names, scores, count = _score_weights(args)
    else:
        if args.mirror or args.ratios:
            option = "--mirror" if args.mirror else "--ratios"
            raise ValueError(f"{option} must be given with --weights; got no --weights")
        names, scores, count = _score_results(args, results)
    figures = {
        **score_figures(scores),
        "pictures": count,
        "split": args.split,
        "iou": _by_class(names, scores.iou.tolist()),
        "accuracy": _by_class(names, scores.accuracy.tolist()),
    }
    path = (args.out or results or Path()) / "label_metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(figures, indent=2))
    if args.json:
        print(json.dumps(figures))
        return 0
    _print_scores(names, scores, count, per_class=args.per_class)
    print(f"metrics: {path}")
    return 0


def _score_weights(args: argparse.Namespace) -> tuple[tuple[str, ...], LabelScores, int]:
    """Label the pictures by the weights, and score that."""
    import torch
    from rich.progress import Progress

    from bevstack.evaluation.segmentation.iou import LabelCounts
    from bevstack.runtime.devices import choose_device
    from bevstack.runtime.loading import load_any
    from bevstack.runtime.pixel_labeller import PixelLabeller
    from bevstack.training.progress_bar import make_console

    labeller = load_any(args.weights, torch.device(choose_device(args.device)))
    if not isinstance(labeller, PixelLabeller):
        raise ValueError(f"--weights must label pixels; got {args.weights}, which does not")
    names, console = labeller.class_names, make_console()
    data = open_label_data(args, args.split).with_classes(names)
    counts = LabelCounts(len(names))
    with Progress(console=console, disable=args.json or not console.is_terminal) as bar:
        for index in bar.track(range(len(data)), description="predicting"):
            sample = data.sample(index)
            (labels,) = labeller.segment(
                [sample.image], ratios=args.ratios or (1.0,), mirror=args.mirror
            )
            counts.add(labels, sample.semantic)
    return names, counts.scores(), len(data)


def _score_results(
    args: argparse.Namespace, results: Path
) -> tuple[tuple[str, ...], LabelScores, int]:
    """Score label maps of a folder, whose labels its list of classes names."""
    from bevstack.datasets.label_files import read_label_map
    from bevstack.evaluation.segmentation.iou import LabelCounts
    from bevstack.tables.label_maps import label_map_names, read_classes

    names = read_classes(results)
    data = open_label_data(args, args.split).with_classes(names)
    counts = LabelCounts(len(names))
    files = label_map_names([own.name for own in data.files])
    for index, name in enumerate(files):
        path = results / name
        try:
            counts.add(read_label_map(path), data.labels(index))
        except ValueError as error:
            raise ValueError(f"{error} ({path})") from None
    return names, counts.scores(), len(data)


def _by_class(names: tuple[str, ...], values: list[float]) -> dict[str, float | None]:
    """Return values by class; None for one without pixels, as JSON has no nan."""
    pairs = zip(names, values, strict=True)
    return {name: None if value != value else value for name, value in pairs}


def _print_scores(
    names: tuple[str, ...], scores: LabelScores, count: int, *, per_class: bool
) -> None:
    from bevstack.cli.tables import print_lines

    rows: list[tuple[str, ...]] = [("", "IoU", "accuracy")]
    if per_class:
        values = zip(names, scores.iou.tolist(), scores.accuracy.tolist(), strict=True)
        for name, iou, accuracy in values:
            rows.append((name, format_figure(iou), format_figure(accuracy)))
    rows.append(("mean", format_figure(scores.mean_iou), format_figure(scores.mean_accuracy)))
    print_lines(rows)
    print(f"{format_figure(scores.pixel_accuracy)} of the labelled pixels of {count} pictures")
