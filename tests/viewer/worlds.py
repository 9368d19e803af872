"""A world with results that have known errors: shifted, missed, doubled and invented boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevstack.synthetic import WorldSpec, make_world
from bevstack.tables.reader import Tables
from bevstack.tables.splits import scenes_of_split
from bevstack.viewer.recorded import RecordedSource
from bevstack.vocabulary import DETECTION_CLASSES
from tests.small_world import build_once

VERSION = "v1.0-synth"
SPEC = WorldSpec(
    train_scenes=1, val_scenes=1, samples_per_scene=4, traffic="rich", image_size=(90, 160)
)
Results = dict[str, list[dict[str, Any]]]


def viewer_world(factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``world``, ``model.json``, ``other.json`` and ``tracks.json``."""
    return build_once(factory, "viewer_world", _build)


def source_of(folder: Path, *results: str, **fields: Any) -> RecordedSource:
    """Return the source of the world with results files of the folder."""
    paths = tuple(folder / name for name in results)
    return RecordedSource(root=folder / "world", version=VERSION, results=paths, **fields)


def write_results(path: Path, results: Results) -> None:
    """Write a results file."""
    path.write_text(json.dumps({"meta": {"use_camera": True}, "results": results}))


def _build(folder: Path) -> None:
    make_world(folder / "world", SPEC)
    tables = Tables(folder / "world", VERSION)
    names = scenes_of_split(tables, "synth_train") + scenes_of_split(tables, "synth_val")
    rows = [int(row) for s in tables.scene_rows(names) for row in tables.samples_of_scene(int(s))]
    for name, seed in (("model", 1), ("other", 2)):
        results = {str(tables.samples.token[r]): noisy(tables, r, seed + r) for r in rows}
        write_results(folder / f"{name}.json", results)
    write_results(
        folder / "tracks.json", {str(tables.samples.token[r]): tracks(tables, r) for r in rows}
    )


def noisy(tables: Tables, sample: int, seed: int) -> list[dict[str, Any]]:
    """Return boxes near the true ones: shifted by up to 3 m, some doubled, some left out."""
    rng, entries = np.random.default_rng(seed), []
    for row in tables.annotations_of(sample).tolist():
        name = tables.class_by_category.get(str(tables.annotations.category[row]))
        if name is None or rng.random() < 0.2:
            continue
        for _ in range(1 + int(rng.random() < 0.3)):
            entries.append(_entry(tables, sample, row, name, rng))
    for entry in entries[:3]:  # a wrong class, which matches nothing
        wrong = DETECTION_CLASSES[(DETECTION_CLASSES.index(entry["detection_name"]) + 1) % 10]
        entries.append({**entry, "detection_name": wrong, "attribute_name": ""})
    return entries


def _entry(
    tables: Tables, sample: int, row: int, name: str, rng: np.random.Generator
) -> dict[str, Any]:
    place, velocity = tables.annotations.translation[row], tables.annotations.velocity[row]
    shift = np.append(rng.normal(0, 1.0, 2), 0.0)
    return {
        "sample_token": str(tables.samples.token[sample]),
        "translation": (place + shift).tolist(),
        "size": (tables.annotations.size[row] * rng.uniform(0.9, 1.1, 3)).tolist(),
        "rotation": tables.annotations.rotation[row].tolist(),
        "velocity": np.nan_to_num(velocity).tolist(),
        "detection_name": name,
        "detection_score": float(np.round(rng.uniform(0.05, 1.0), 2)),
        "attribute_name": "",
    }


def tracks(tables: Tables, sample: int) -> list[dict[str, Any]]:
    """Return the true cars as tracks."""
    entries = []
    for row in tables.annotations_of(sample).tolist():
        if tables.class_by_category.get(str(tables.annotations.category[row])) != "car":
            continue
        entry = _entry(tables, sample, row, "car", np.random.default_rng(row))
        entries.append(
            {
                **{k: entry[k] for k in ("sample_token", "size", "rotation", "velocity")},
                "translation": tables.annotations.translation[row].tolist(),
                "tracking_id": f"car {int(tables.annotations.instance[row])}",
                "tracking_name": "car",
                "tracking_score": 0.75,
            }
        )
    return entries
