"""Negative control: trains on labels of other scenes, which must teach nothing.

Every image keeps its calibration and gets the true boxes of a sample of another scene, always the
same one. Scored on held-out scenes, whose labels are their own, the model must stay near the
bird's-eye prior; if it does not, something but the images tells where the boxes are.

    python bevstack/experiments/shuffled_training.py --config tiny_cpu_t4 --nuscenes data/synthetic \
        --version v1.0-synth --split synth_train --held-out synth_val --out out/shuffled

A run that was stopped goes on with the same command; under `torchrun` processes share the work.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bevstack.config import load_config
from bevstack.experiments.judge.shuffled_labels import ShuffledLabels
from bevstack.experiments.judge.splits import open_split
from bevstack.tables.reader import Tables
from bevstack.training import Evaluation, Listeners, train
from bevstack.training.processes import join_processes, leave_processes
from bevstack.training.progress_bar import make_console, training_progress


def main() -> int:
    """Runs the control."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="name of a configuration, or a file")
    parser.add_argument("--nuscenes", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True, help="scenes to train on")
    parser.add_argument("--held-out", required=True, metavar="SPLIT", help="scenes to score on")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    config = load_config(args.config)
    tables = Tables(args.nuscenes, args.version)
    processes = join_processes("cpu")
    console = make_console()
    console.quiet = not processes.is_first

    def say(evaluation: Evaluation) -> None:
        metrics = evaluation.metrics
        console.print(
            f"step {evaluation.step}, {evaluation.elapsed_s:.0f} s in steps: NDS "
            f"{metrics.nds:.4f}, mAP {metrics.mean_average_precision:.4f}"
        )

    recipe = config.training
    with training_progress(console, recipe.num_steps, recipe.log_every) as report:
        result = train(
            config,
            ShuffledLabels(open_split(tables, args.split, config)),
            args.out,
            held_out=open_split(tables, args.held_out, config),
            resume=True,
            processes=processes,
            listeners=Listeners(step=report, evaluation=say),
        )
    leave_processes()
    console.print(f"weights: {result.weights}\nscores: {result.evaluations}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
