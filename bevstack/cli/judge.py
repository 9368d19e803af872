"""Judge a trained detector on held-out scenes: baselines it must beat, controls it must fail.

  bevstack judge MODEL.safetensors --nuscenes ROOT --version V --split S --out DIR
  bevstack judge ... --only model,prior,single_frame     # some rows
  bevstack judge ... --only control                      # a kind: baseline or control
  bevstack judge ... --only model,prior,lost_            # all rows with this beginning

Every row is scored by the nuScenes metric on the same scenes. Finished rows are kept in DIR/rows
and not made again; a row that was stopped continues with the scene it had reached. DIR/judge.json
holds all rows. Exit code 1 if a control does not behave: NDS without the right images must fall to
the prior's, a turned calibration must cost mAP and the right calibration must restore it, a lost
camera must cost its own sector alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack judge``."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="weights file")
    parser.add_argument(
        "--nuscenes", type=Path, required=True, metavar="ROOT", help="folder of the data set"
    )
    parser.add_argument("--version", required=True, help="folder of its tables, e.g. v1.0-synth")
    parser.add_argument("--split", required=True, help="scenes to score on")
    parser.add_argument(
        "--train-split",
        default="synth_train",
        metavar="SPLIT",
        help="scenes that priors are learned from (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        type=lambda text: [name for name in text.split(",") if name],
        default=[],
        metavar="NAME,...",
        help="these rows alone",
    )
    parser.add_argument(
        "--max-samples",
        type=int,
        metavar="N",
        help="score on whole scenes of at most this number of samples",
    )
    parser.add_argument(
        "--single-frame",
        type=Path,
        metavar="FILE",
        help="weights of a model that was trained with frames (0,), for a row of its own",
    )
    parser.add_argument(
        "--official",
        action="store_true",
        help="also score the model's rows with nuscenes-devkit, whose figures must be the same",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/judge"), metavar="DIR", help="default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    """Judge the model; return 1 if a control does not behave."""
    from bevstack.experiments.judge.judge import JudgeOptions, judge

    options = JudgeOptions(
        model=args.model,
        nuscenes=args.nuscenes,
        version=args.version,
        split=args.split,
        train_split=args.train_split,
        only=args.only,
        max_samples=args.max_samples,
        single_frame=args.single_frame,
        official=args.official,
        out=args.out,
        command="bevstack " + " ".join(sys.argv[1:]),
    )
    return 0 if judge(options, lambda line: print(line, flush=True)) else 1
