"""Train variants of a detector, each within the same processor time, and score them.

  bevstack study --config tiny_cpu_t4 --nuscenes ROOT --version V --split TRAIN --held-out TEST \
      --minutes 20 --out DIR
  bevstack study ... --only seed_,no_memory     # some variants
  bevstack study ... --weights MODEL.safetensors --only seed_,camera_dropout

Every variant starts with random weights, or with those of --weights, is trained by one process of
one thread for the number of steps that fills the budget of processor time, and is scored on the
same held-out scenes, streamed from its model file. Finished variants are kept in DIR and not made
again; a training that was stopped continues. So several calls, each with another --only, may share
a machine. DIR/study.json holds all finished variants.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack study``."""
    parser.add_argument(
        "--config", required=True, help="name of a packaged configuration, or a file"
    )
    parser.add_argument(
        "--nuscenes", type=Path, required=True, metavar="ROOT", help="folder of the data set"
    )
    parser.add_argument("--version", required=True, help="folder of its tables, e.g. v1.0-synth")
    parser.add_argument("--split", required=True, help="scenes to train on")
    parser.add_argument("--held-out", required=True, metavar="SPLIT", help="scenes to score on")
    parser.add_argument(
        "--minutes",
        type=float,
        default=20.0,
        metavar="M",
        help="processor time of each variant (default: %(default)g)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights of the configuration that every variant starts with (default: random ones)",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="number of seeds (default: %(default)s)"
    )
    parser.add_argument(
        "--only",
        type=lambda text: [name for name in text.split(",") if name],
        default=[],
        metavar="NAME,...",
        help="these variants alone",
    )
    parser.add_argument(
        "--max-samples",
        type=int,
        metavar="N",
        help="score on whole scenes of at most this number of samples",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/study"), metavar="DIR", help="default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    """Run the study."""
    from bevstack.experiments.study.study import StudyOptions, study

    options = StudyOptions(
        config=args.config,
        nuscenes=args.nuscenes,
        version=args.version,
        split=args.split,
        held_out=args.held_out,
        minutes=args.minutes,
        weights=args.weights,
        seeds=args.seeds,
        only=args.only,
        max_samples=args.max_samples,
        out=args.out,
        command="bevstack " + " ".join(sys.argv[1:]),
    )
    study(options, lambda line: print(line, flush=True))
    return 0
