r"""Train variants of a detector for the same processor time each, and score them.

  bevstack study --config tiny_cpu_t4 --nuscenes ROOT --version V --split TRAIN --held-out TEST \
      --minutes 20 --out DIR
  bevstack study ... --only seed_,no_memory     # some variants
  bevstack study ... --weights MODEL.safetensors --only seed_,camera_dropout

Each variant starts from random weights, or from those of --weights. One process with one thread
trains it for as many steps as fit into the processor time. Its model is then scored on the held-out
scenes, which are streamed. Finished variants are kept in DIR and not computed again, and an
interrupted training continues; so several calls with different --only can run at the same time.
DIR/study.json holds all finished variants.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bevstack.cli.options import (
    add_allow_outside,
    add_classes,
    add_config,
    add_max_samples,
    add_no_verify,
    add_only,
    add_overrides,
    add_strict_rig,
)
from bevstack.cli.tables import print_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack study``."""
    add_config(parser, required=True)
    add_overrides(parser)
    parser.add_argument(
        "--nuscenes", type=Path, required=True, metavar="ROOT", help="folder of the data set"
    )
    parser.add_argument("--version", required=True, help="folder of the tables, e.g. v1.0-synth")
    parser.add_argument("--split", required=True, help="split to train on")
    parser.add_argument("--held-out", required=True, metavar="SPLIT", help="split to score on")
    parser.add_argument(
        "--minutes",
        type=float,
        default=20.0,
        metavar="M",
        help="processor time of each training, minutes (default: %(default)g)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="initial weights of every variant (default: random weights)",
    )
    add_no_verify(parser)
    add_strict_rig(parser)
    add_allow_outside(parser)
    add_classes(parser)
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        metavar="N",
        help="number of seeds of the unchanged detector (default: %(default)s)",
    )
    add_only(parser, "variants: names, or beginnings of names that end in _")
    add_max_samples(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/study"),
        metavar="DIR",
        help="folder for the variants (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the study.

    Raises:
        FileNotFoundError: the configuration, weights, data set or a split does not exist.
        ValueError: variants that do not exist, finished variants of another study in ``--out``, or
            a processor time too short for one step of each stage.
    """
    from bevstack.experiments.study.study import StudyOptions, study

    options = StudyOptions(
        config=args.config,
        overrides=args.overrides,
        nuscenes=args.nuscenes,
        version=args.version,
        split=args.split,
        held_out=args.held_out,
        minutes=args.minutes,
        weights=args.weights,
        verify=args.verify,
        allow_outside=args.allow_outside,
        classes=args.classes,
        seeds=args.seeds,
        only=args.only,
        max_samples=args.max_samples,
        out=args.out,
        command="bevstack " + " ".join(sys.argv[1:]),
    )
    study(options, lambda line: print(line, flush=True), print_lines)
    return 0
