"""Independent check of our scores by nuscenes-devkit's own code (the extra ``[nuscenes]``)."""

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
    """Score like ``evaluate_results``, with nuscenes-devkit; minutes slower at full size.

    Our reader checks the results first, because its error messages are more precise. Results
    without a single box score 0; the devkit fails on them. Map images are not needed.

    Raises:
        FileNotFoundError: the results file, root, version or a table does not exist.
        ValueError: see ``load``; or the results are columns, which the devkit does not read.
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
            f"nuscenes-devkit must be installed for the official score; got no module "
            f"{error.name!r}: pip install 'bevstack[nuscenes]' (Python 3.12 or older)"
        ) from error
    entries: Results
    if isinstance(results, (Path, str)):
        entries = json.loads(Path(results).read_bytes())["results"]
    else:
        entries = results
    tokens = entries if is_official(split) else loaded.truth.boxes.sample_tokens.tolist()
    keyframes = tables.keyframes.token[tables.reference_keyframes(loaded.samples)]
    names = tables.samples.token[loaded.samples].tolist()
    references = dict(zip(names, map(str, keyframes), strict=True))
    wanted = {token: entries[token] for token in tokens}
    summary, details = score(wanted, tables.root, version, references)
    summary["meta"] = dict(loaded.submission.meta)
    if out_dir is not None:
        write_text_atomically(Path(out_dir) / SUMMARY_NAME, json.dumps(summary, indent=2))
        write_text_atomically(Path(out_dir) / DETAILS_NAME, json.dumps(details, indent=2))
    return DetectionMetrics.from_summary(summary)
