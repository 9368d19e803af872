"""The part of ``bevstack judge`` that needs no model: what limits the score of a results file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bevstack.evaluation.analysis.reach import Reach
    from bevstack.evaluation.analysis.substitution import Substitution


def run_substitute(args: argparse.Namespace) -> int:
    """Print and write the scores with true values put in, and recall and errors by distance.

    Raises:
        FileNotFoundError: the results file or the data set does not exist.
        ValueError: the results are not of the format or lack samples of the split, or an option is
            given that only a model needs.
    """
    from bevstack.evaluation.analysis.conditions import read_conditions
    from bevstack.evaluation.analysis.reach import reaches
    from bevstack.evaluation.analysis.substitution import substitute
    from bevstack.evaluation.scoring import load
    from bevstack.experiments.judge.figures import without_nan
    from bevstack.files import write_text_atomically
    from bevstack.tables.reader import Tables
    from bevstack.training.progress_bar import make_console

    if args.weights is not None or args.model is not None:
        raise ValueError(
            f"--substitute must stand without weights, which it does not run; got "
            f"{args.weights or args.model}"
        )
    tables = Tables(
        args.nuscenes, args.version, allow_outside=args.allow_outside, classes=args.classes
    )
    loaded = load(args.substitute, tables, args.split)
    rows = substitute(loaded.submission.boxes, loaded.truth)
    reach = reaches(loaded.submission.boxes, loaded.truth, read_conditions(tables, loaded.samples))
    content: dict[str, Any] = {
        "results": args.substitute.name,
        "samples": len(loaded.samples),
        "rows": [row._asdict() for row in rows],
        "reach": [row._asdict() for row in reach],
    }
    path = args.out / "substitution.json"
    args.out.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(without_nan(content), indent=1) + "\n")
    print_substitutions(make_console(), rows, reach)
    print(f"figures: {path}")
    return 0


def print_substitutions(console: Any, rows: Sequence[Substitution], reach: Sequence[Reach]) -> None:
    """Print both tables."""
    from bevstack.cli.tables import print_table
    from bevstack.evaluation.analysis.limits_table import (
        REACH_TITLES,
        SUBSTITUTION_TITLES,
        reach_cells,
        substitution_cells,
    )

    print_table(console, SUBSTITUTION_TITLES, [substitution_cells(row) for row in rows])
    print_table(console, REACH_TITLES, [reach_cells(row) for row in reach])
