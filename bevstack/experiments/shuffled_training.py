"""Negative control: training on the labels of other scenes, from which no model can learn.

Every image keeps its calibration and gets the true boxes of a sample of another scene, always the
same sample. The model is scored on held-out scenes with their own labels. It must score about as
much as the BEV prior. If it scores more, something besides the images reveals the boxes.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from bevstack.config import Config
from bevstack.experiments.judge.shuffled_labels import ShuffledLabels
from bevstack.experiments.judge.splits import open_split
from bevstack.tables.reader import Tables
from bevstack.tasks.detection3d import Detection3D
from bevstack.training import Evaluation, Listeners, TrainingResult, train
from bevstack.training.processes import Processes
from bevstack.training.progress_bar import training_progress


def train_shuffled(
    config: Config,
    tables: Tables,
    out: Path,
    *,
    split: str,
    held_out: str,
    processes: Processes,
    console: Console,
) -> TrainingResult:
    """Run the control, or resume it after a stop; print scores and progress on the console.

    Raises:
        ValueError: ``out`` holds a checkpoint of another configuration.
        FileNotFoundError: a split or an image does not exist.
    """

    def show(evaluation: Evaluation) -> None:
        figures = evaluation.score.figures
        console.print(
            f"step {evaluation.step}, {evaluation.elapsed_s:.0f} s in steps: NDS "
            f"{figures['nds']:.4f}, mAP {figures['map']:.4f}"
        )

    recipe = config.training
    with training_progress(console, recipe.num_steps, recipe.log_every) as report:
        return train(
            Detection3D(
                config,
                ShuffledLabels(open_split(tables, split, config)),
                held_out=open_split(tables, held_out, config),
            ),
            out,
            resume=True,
            processes=processes,
            listeners=Listeners(step=report, evaluation=show),
        )
