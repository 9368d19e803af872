"""Negative control: training on labels of other scenes, from which nothing can be learned.

    python tools/train_shuffled.py --config tiny_cpu_t4 --nuscenes data/synthetic \
        --version v1.0-synth --split synth_train --held-out synth_val --out out/shuffled

A stopped run continues with the same command. Under `torchrun`, processes share the work.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bevstack.cli.options import add_classes
from bevstack.config import load_config
from bevstack.experiments.shuffled_training import train_shuffled
from bevstack.tables.reader import Tables
from bevstack.training.processes import join_processes, leave_processes
from bevstack.training.progress_bar import make_console


def main(arguments: list[str] | None = None) -> int:
    """Run the control."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="name or file of a configuration")
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True, help="folder of the tables")
    parser.add_argument("--split", required=True, help="scenes to train on")
    parser.add_argument("--held-out", required=True, metavar="SPLIT", help="scenes to score on")
    add_classes(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args(arguments)
    processes = join_processes("cpu")
    console = make_console()
    console.quiet = not processes.is_first
    result = train_shuffled(
        load_config(args.config),
        Tables(args.nuscenes, args.version, classes=args.classes),
        args.out,
        split=args.split,
        held_out=args.held_out,
        processes=processes,
        console=console,
    )
    leave_processes()
    console.print(f"weights: {result.weights}\nscores: {result.evaluations}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
