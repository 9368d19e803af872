"""Judge a trained detector on held-out scenes: baselines it must beat, controls it must fail.

  bevstack judge --weights MODEL.safetensors --nuscenes ROOT --version V --split S --out DIR
  bevstack judge ... --only model,prior,single_frame     # some rows
  bevstack judge ... --only control                      # all rows of a kind: baseline or control
  bevstack judge ... --only model,prior,lost_            # all rows that start with lost_
  bevstack judge --substitute RESULTS.json --nuscenes ROOT --version V --split S --out DIR

Each row of the table is scored with the nuScenes metric on the same scenes. Finished rows are kept
in DIR/rows and not computed again; an interrupted row continues with the next scene. DIR/judge.json
holds all rows. The exit code is 1 if a control does not behave: NDS without the right images must
fall to that of the prior, a wrong calibration must cost mAP and the right calibration must restore
it, a lost camera must reduce the scores of its own sector only.

With --substitute it needs no model, only a results file, and takes seconds: the score with true
ranges, velocities, headings and so on in place of the file's own, for boxes that see a true box.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bevstack.cli.options import (
    add_allow_outside,
    add_classes,
    add_device,
    add_max_samples,
    add_no_verify,
    add_only,
    add_precision,
    add_strict_rig,
)
from bevstack.cli.tables import print_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack judge``."""
    parser.add_argument(
        "model", nargs="?", type=Path, metavar="FILE", help="weights, instead of --weights"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="weights file, or name of packaged weights"
    )
    parser.add_argument(
        "--substitute",
        type=Path,
        metavar="RESULTS",
        help="results file: print what limits its score, with true values put in one by one",
    )
    add_device(parser)
    add_precision(parser)
    parser.add_argument(
        "--nuscenes", type=Path, required=True, metavar="ROOT", help="folder of the data set"
    )
    parser.add_argument("--version", required=True, help="folder of the tables, e.g. v1.0-synth")
    parser.add_argument("--split", required=True, help="split to score on")
    parser.add_argument(
        "--train-split",
        default="synth_train",
        metavar="SPLIT",
        help="split that the priors are learned from (default: %(default)s)",
    )
    add_only(parser, "rows: names, kinds, or beginnings of names that end in _")
    add_max_samples(parser)
    parser.add_argument(
        "--single-frame",
        type=Path,
        metavar="FILE",
        help="weights of a single-frame model (frames = (0,)), which adds a row",
    )
    add_no_verify(parser)
    add_strict_rig(parser)
    add_allow_outside(parser)
    add_classes(parser)
    parser.add_argument(
        "--official",
        action="store_true",
        help="also score the model's rows with nuscenes-devkit, which must give the same scores",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/judge"),
        metavar="DIR",
        help="folder for the rows (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Judge the model; return 1 if a control does not behave.

    Raises:
        FileNotFoundError: the weights, the data set or a split does not exist.
        ValueError: rows that do not exist, finished rows of another model in ``--out``, or weights
            of several frames for ``--single-frame``.
    """
    if args.substitute is not None:
        from bevstack.cli.judge_substitute import run_substitute

        return run_substitute(args)
    from bevstack.experiments.judge.judge import JudgeOptions, judge
    from bevstack.runtime.shipped import weights_path

    given = [path for path in (args.weights, args.model) if path is not None]
    if len(given) != 1:
        names = " and ".join(map(str, given)) or "none"
        raise ValueError(f"one --weights FILE must be given; got {names}")
    options = JudgeOptions(
        model=weights_path(given[0]),
        nuscenes=args.nuscenes,
        version=args.version,
        split=args.split,
        train_split=args.train_split,
        only=args.only,
        max_samples=args.max_samples,
        single_frame=args.single_frame,
        verify=args.verify,
        allow_outside=args.allow_outside,
        classes=args.classes,
        official=args.official,
        device=args.device,
        precision=args.precision,
        out=args.out,
        command="bevstack " + " ".join(sys.argv[1:]),
    )
    return 0 if judge(options, lambda line: print(line, flush=True), print_lines) else 1
