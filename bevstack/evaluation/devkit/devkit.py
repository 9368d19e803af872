"""A check of our scores: those of nuscenes-devkit's own code (the extra ``[nuscenes]``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bevstack.evaluation.detection3d.metrics import DetectionMetrics
from bevstack.evaluation.results.box_entries import Results
from bevstack.evaluation.results.submission import is_columns
from bevstack.evaluation.scoring import DETAILS_NAME, SUMMARY_NAME, load
from bevstack.files import write_text_atomically
from bevstack.tables.reader import Tables
from bevstack.tables.splits import is_official


def evaluate_with_devkit(
    results: Path | str | Results,
    root: Path | str,
    version: str,
    split: str | Sequence[str],
    out_dir: Path | str | None = None,
) -> DetectionMetrics:
    """The same as ``evaluate_results``, minutes slower at full size, by nuscenes-devkit.

    Ours has a look first, for errors that say more than the devkit's. Results without a single box
    score 0, where the devkit fails. Pictures of maps are not needed.

    Raises:
        FileNotFoundError: no such results file, root, version or table.
        ValueError: see ``load``; results as columns, which the devkit does not read.
        ImportError: nuscenes-devkit is not installed.
    """
    tables = Tables(root, version)
    if isinstance(results, (Path, str)) and is_columns(results):
        raise ValueError(f"results file must be JSON for nuscenes-devkit; got columns in {results}")
    loaded = load(results, tables, split)
    try:
        from bevstack.evaluation.devkit.devkit_metric import score
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the official score must come from nuscenes-devkit; got no module {error.name!r}; "
            "pip install 'bevstack[nuscenes]' (Python 3.12 or older)"
        ) from error
    if isinstance(results, (Path, str)):
        results = json.loads(Path(results).read_bytes())["results"]
    tokens = results if is_official(split) else loaded.truth.boxes.sample_tokens.tolist()
    summary, details = score({token: results[token] for token in tokens}, tables.root, version)
    summary["meta"] = dict(loaded.submission.meta)
    if out_dir is not None:
        write_text_atomically(Path(out_dir) / SUMMARY_NAME, json.dumps(summary, indent=2))
        write_text_atomically(Path(out_dir) / DETAILS_NAME, json.dumps(details, indent=2))
    return DetectionMetrics.from_summary(summary)
