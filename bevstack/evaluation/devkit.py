"""Scores of a submission by nuscenes-devkit's own metric code (the extra ``[nuscenes]``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bevstack.evaluation.metrics import DetectionMetrics
from bevstack.evaluation.submission import Results, check_boxes, read_results
from bevstack.files import write_text_atomically
from bevstack.tables.names import CATEGORY_TO_CLASS
from bevstack.tables.reader import Tables
from bevstack.tables.splits import is_official, scenes_of_split

SUMMARY_NAME = "metrics_summary.json"
DETAILS_NAME = "metrics_details.json"


def evaluate_with_devkit(
    results: Path | str | Results,
    root: Path | str,
    version: str,
    split: str | Sequence[str],
    out_dir: Path | str | None = None,
) -> DetectionMetrics:
    """Scores results with the detection metric of nuScenes (``detection_cvpr_2019``).

    Results of samples outside the split are left out, but for an official split they are an
    error, as they are to the devkit. Results without a single box score 0, where the devkit fails.
    Pictures of maps are not needed.

    Args:
        results: a results file, or its ``results`` object.
        root: the folder that holds the version's folder.
        version: the folder of the 13 tables.
        split: an official split, one of the version's ``splits.json``, or names of scenes.
        out_dir: where ``metrics_summary.json`` and ``metrics_details.json`` go, in the devkit's
            own form; none: nowhere.

    Raises:
        FileNotFoundError: no such results file, root, version or table.
        ValueError: results that are not of the format, or not of the split's samples; a split or
            scene that is not there; a split without true boxes; tables that do not fit together.
        ImportError: nuscenes-devkit is not installed.
    """
    tables = Tables(root, version)
    tokens = sample_tokens(tables, split)
    _check_truth(tables, tokens)
    meta, found = ({}, results) if not isinstance(results, (Path, str)) else read_results(results)
    _check_samples(found, tokens, split, exact=is_official(split))
    for token in tokens:
        check_boxes(token, found[token])
    try:
        from bevstack.evaluation.devkit_metric import score
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the official score must come from nuscenes-devkit; got no module {error.name!r}; "
            "pip install 'bevstack[nuscenes]' (Python 3.12 or older)"
        ) from error
    summary, details = score({token: found[token] for token in tokens}, tables.root, version)
    summary["meta"] = dict(meta)
    if out_dir is not None:
        write_text_atomically(Path(out_dir) / SUMMARY_NAME, json.dumps(summary, indent=2))
        write_text_atomically(Path(out_dir) / DETAILS_NAME, json.dumps(details, indent=2))
    return DetectionMetrics.from_summary(summary)


def sample_tokens(tables: Tables, split: str | Sequence[str]) -> list[str]:
    """Tokens of a split's samples, in the order of the sample table, as the devkit has them.

    Raises:
        ValueError: a split or scene that is not in the version.
    """
    scenes = set(tables.scene_rows(scenes_of_split(tables, split)).tolist())
    samples = tables.samples
    return [
        str(token)
        for token, scene in zip(samples.token, samples.scene.tolist(), strict=True)
        if scene in scenes
    ]


def _check_truth(tables: Tables, tokens: Sequence[str]) -> None:
    """Reads what the metric will read, for errors that say more than the devkit's."""
    rows = np.array([tables.sample_row(token) for token in tokens], dtype=np.int64)
    tables.reference_keyframes(rows)
    categories = tables.annotations.category[np.isin(tables.annotations.sample, rows)]
    if not any(category in CATEGORY_TO_CLASS for category in np.unique(categories).tolist()):
        raise ValueError(
            f"the scored samples must have true boxes of the detection classes; got none in the "
            f"{len(tokens)} samples of {tables.version}: choose another split"
        )


def _check_samples(
    found: Results, tokens: Sequence[str], split: str | Sequence[str], *, exact: bool
) -> None:
    named = repr(split) if isinstance(split, str) else f"the scenes {', '.join(split)}"
    missing = [token for token in tokens if token not in found]
    if missing:
        raise ValueError(
            f"results must hold every one of the {len(tokens)} samples of {named}; got none for "
            f"{len(missing)}, such as {', '.join(missing[:3])}: predict the whole split, or "
            "score the scenes you have"
        )
    extra = sorted(set(found) - set(tokens)) if exact else []
    if extra:
        raise ValueError(
            f"results must hold the samples of {named} and no others; got {len(extra)} others, "
            f"such as {', '.join(extra[:3])}: they are of another split or version"
        )
