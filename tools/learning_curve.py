"""Learning curve: NDS of a training's checkpoints on held-out scenes over CPU time.

Example:
    python tools/learning_curve.py out/run/checkpoint_*.safetensors --processes 2 \
        --nuscenes data/synthetic --version v1.0-synth --held-out synth_test --out out/curve

A run keeps only its newest checkpoints: copy the ones that you need while it trains. Finished
points are stored in OUT and are not computed again. curve.json holds all points, curve.png draws
them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bevstack.cli.options import add_classes
from bevstack.experiments.learning_curve import CurveOptions, draw_curve


def main(arguments: list[str] | None = None) -> int:
    """Score the checkpoints; print, store and draw the points."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT")
    parser.add_argument(
        "--processes",
        type=int,
        required=True,
        help="number of processes of the training, one thread each",
    )
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True, help="folder of the tables")
    parser.add_argument("--held-out", required=True, metavar="SPLIT", help="scenes to score on")
    parser.add_argument(
        "--max-frames",
        "--max-samples",
        type=int,
        metavar="N",
        help="score on whole scenes of at most N samples in total",
    )
    add_classes(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args(arguments)
    options = CurveOptions(
        checkpoints=args.checkpoints,
        processes=args.processes,
        nuscenes=args.nuscenes,
        version=args.version,
        held_out=args.held_out,
        max_samples=args.max_frames,
        classes=args.classes,
        out=args.out,
    )
    draw_curve(options, lambda line: print(line, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
