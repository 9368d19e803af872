"""The part of ``bevstack evaluate`` that predicts and scores corrupted images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bevstack.cli.options import add_device, add_precision


def add_corruptions(parser: argparse.ArgumentParser) -> None:
    """Declare ``--corruptions`` and its options."""
    group = parser.add_argument_group("corrupted images (RoboBEV, nuScenes-C), instead of results")
    group.add_argument(
        "--corruptions",
        metavar="NAME,...",
        help="predict with --weights under these corruptions at three levels each, and score: "
        "all, or CameraCrash, FrameLost, ColorQuant, MotionBlur, Brightness, LowLight, Fog, Snow",
    )
    group.add_argument(
        "--weights", type=Path, metavar="FILE", help="weights file, or name of packaged weights"
    )
    group.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="corruptions.json of a model on the same samples, whose errors count as 1 in mCE",
    )
    group.add_argument(
        "--as-published",
        action="store_true",
        help="lost cameras give black pictures and count as working, as in the published "
        "benchmark (default: they are masked)",
    )
    group.add_argument(
        "--health",
        action="store_true",
        help="let the stream judge its cameras, and mask those that are not usable",
    )
    group.add_argument(
        "--mirror", action="store_true", help="predict also mirrored frames, as `predict --mirror`"
    )
    group.add_argument(
        "--track", action="store_true", help="track the objects, as `predict --track`"
    )
    add_device(group)
    add_precision(group)


def run_corruptions(args: argparse.Namespace) -> int:
    """Predict and score each corruption; print a table and write ``corruptions.json``.

    Raises:
        FileNotFoundError: the weights, the data set or the reference does not exist.
        ValueError: an option does not fit, or ``--out`` holds runs of another model or other data.
        OSError: the figures cannot be written.
    """
    from bevstack.datasets.corruptions import find_corruptions
    from bevstack.experiments.corruptions.benchmark import CorruptionOptions, score_corruptions
    from bevstack.runtime.shipped import weights_path

    _check(args)
    options = CorruptionOptions(
        model=weights_path(args.weights),
        nuscenes=args.nuscenes,
        version=args.version,
        scenes=args.split or args.scene,
        corruptions=find_corruptions([n for n in args.corruptions.split(",") if n]),
        out=args.out,
        as_published=args.as_published,
        health=args.health,
        mirror=args.mirror,
        track=args.track,
        reference=args.reference,
        device=args.device,
        precision=args.precision,
        classes=args.classes,
        command="bevstack " + " ".join(sys.argv[1:]),
    )
    quiet = args.json
    content = score_corruptions(options, lambda line: None if quiet else print(line, flush=True))
    if args.json:
        print(json.dumps(content))
    else:
        print_corruptions(content)
        print(f"figures: {args.out / 'corruptions.json'}")
    return 0


# of lost cameras: share left, mAP, and mAP by that of the clean run and this share, measured and
# for the clean run's boxes in the pictures that remain
LOST_TITLES = ("", "cameras", "mAP", "mAP / (clean mAP x cameras)", "of clean boxes left")


def print_corruptions(content: Mapping[str, Any]) -> None:
    """Print a line for each corruption, the means, and the cost of lost cameras."""
    from bevstack.cli.tables import print_table
    from bevstack.datasets.corruptions import LEVELS
    from bevstack.training.progress_bar import make_console

    console = make_console()
    clean = content["clean"]
    lines = [("clean", *[_figure(clean["NDS"])] * len(LEVELS), _figure(clean["mAP"]), "", "")]
    lost = []
    for name, row in content["corruptions"].items():
        levels = [row[level] for level in LEVELS]
        precision = sum(figures["mAP"] for figures in levels) / len(levels)
        scores = [_figure(figures["NDS"]) for figures in levels]
        lines.append((name, *scores, _figure(precision), _figure(row["RR"]), _figure(row["CE"])))
        for level, figures in zip(LEVELS, levels, strict=True):
            if figures["cameras"] < 1:
                lost.append((f"{name} {level}", *_cost(figures, clean)))
    lines.append(("mean", *[""] * 4, _figure(content["mRR"]), _figure(content["mCE"])))
    titles = ("", *(f"NDS {level}" for level in LEVELS), "mAP", "RR", "CE")
    print_table(console, titles, lines)
    if lost:
        print_table(console, LOST_TITLES, lost)
    if content["reference"] is None:
        print("note: CE needs --reference, the corruptions.json of another model")
    if content["mRR"] is None:
        print("note: NDS without corruption is 0, so that RR is not defined")


def _cost(figures: Mapping[str, Any], clean: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the figures of ``LOST_TITLES``, as text."""
    expected = clean["mAP"] * figures["cameras"]
    numbers = [figures["mAP"], figures.get("clean_mAP_left")]
    rates = [None if n is None or expected <= 0 else n / expected for n in numbers]
    return tuple(_figure(n) for n in (figures["cameras"], numbers[0], rates[0], rates[1]))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _check(args: argparse.Namespace) -> None:
    for option in ("weights", "nuscenes", "version", "out"):
        if getattr(args, option) is None:
            raise ValueError(f"--{option} must be given with --corruptions; got none")
    if not (args.split or args.scene):
        raise ValueError("--split or --scene must be given with --corruptions; got none")
    for option in ("file", "results", "against", "groups", "report", "only_predicted", "per_class"):
        if getattr(args, option):
            name = "a results file" if option == "file" else "--" + option.replace("_", "-")
            raise ValueError(f"--corruptions must be given without {name}; got both")
