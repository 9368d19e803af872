"""Scores of a detector under the corruptions of RoboBEV (nuScenes-C), arXiv 2304.06719.

Pictures are corrupted while they are read; no corrupted data set is written. Every corruption and
level is one run over the same scenes. A finished run is a file in ``<out>/runs`` and is not made
again; a run that was stopped continues with its next scene. ``<out>/corruptions.json`` holds all.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bevstack.datasets.corruptions import CORRUPTIONS, LEVELS, Corruption
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.corruption_scores import corruption_errors, mean_of, resilience_rates
from bevstack.evaluation.results.submission import Submission
from bevstack.evaluation.scoring import Loaded, load, score
from bevstack.experiments.corruptions.blind import BlindFrameDetector
from bevstack.experiments.corruptions.frames import (
    corrupted_frames,
    in_cameras_left,
    share_of_cameras,
)
from bevstack.experiments.corruptions.reference import FORMAT, read_reference
from bevstack.experiments.judge.figures import Figures, overall, without_nan
from bevstack.experiments.judge.judge import (
    hash_file,
    hash_tables,
    read_finished,
    versions,
    write_finished,
)
from bevstack.experiments.judge.turned_world import read_manifest
from bevstack.files import write_text_atomically
from bevstack.runtime.devices import choose_device
from bevstack.runtime.loading import load as load_detector
from bevstack.runtime.mirrored import MirroredDetector
from bevstack.runtime.precision import FLOAT32, choose_precision
from bevstack.runtime.predict import check_writable, predict_dataset
from bevstack.runtime.stream_protocol import FrameDetector
from bevstack.runtime.tracked import TrackedDetector
from bevstack.tables.reader import Tables

CLEAN = "clean"
Echo = Callable[[str], None]  # shows one line to the user


@dataclass(frozen=True, kw_only=True)
class CorruptionOptions:
    """The model, the scenes, the corruptions, and the treatment of lost cameras."""

    model: Path  # weights file
    nuscenes: Path  # root of the data set
    version: str  # folder of the tables
    scenes: str | Sequence[str]  # a split, or names of scenes
    corruptions: tuple[Corruption, ...]
    out: Path
    as_published: bool = False  # lost cameras give black pictures and count as working
    health: bool = False  # the stream judges its cameras and masks those that are not usable
    mirror: bool = False  # see ``MirroredDetector``
    track: bool = False  # see ``TrackedDetector``
    reference: Path | None = None  # corruptions.json of the model whose errors count as 1
    device: str = "cpu"  # auto, cpu, cuda or cuda:N
    precision: str = FLOAT32  # one of runtime.precision's PRECISIONS
    verify: bool = True  # compare weights with their checksum
    allow_outside: bool = False  # the tables may name images outside of the root
    classes: Path | None = None  # classes of categories that are not nuScenes'
    command: str = ""  # the user's command line, for the file


def score_corruptions(options: CorruptionOptions, echo: Echo) -> dict[str, Any]:
    """Score a detector without corruption and under each one; write and return all figures.

    Raises:
        FileNotFoundError: the weights, the data set, an image or the reference does not exist.
        ValueError: an option does not fit, there is no such split or scene, or ``out`` holds runs
            of another model, other data or other options.
        OSError: a file cannot be written.
    """
    path = options.out / "corruptions.json"
    check_writable(path)
    tables = Tables(
        options.nuscenes,
        options.version,
        allow_outside=options.allow_outside,
        classes=options.classes,
    )
    detector = open_detector(options)
    by_split = isinstance(options.scenes, str)
    dataset = NuScenesDataset(
        tables,
        split=str(options.scenes) if by_split else None,
        scenes=None if by_split else list(options.scenes),
        bev_frame=detector.config.grid.frame,
        class_names=detector.class_names,
    )
    inputs = describe_inputs(options, dataset)
    reference = None
    if options.reference is not None:
        reference = read_reference(options.reference, options.corruptions, inputs)
    runs = {CLEAN: _finish_run(options, detector, dataset, inputs, None, CLEAN, echo)}
    rows: dict[str, dict[str, Any]] = {}
    for corruption in options.corruptions:
        rows[corruption.name] = {
            level: _finish_run(options, detector, dataset, inputs, corruption, level, echo)
            for level in LEVELS
        }
        for level, row in rows[corruption.name].items():
            row["clean_mAP_left"] = runs[CLEAN].get("left", {}).get(f"{corruption.name} {level}")
    content = {"format": FORMAT, "command": options.command, "versions": versions(), **inputs}
    content |= summarise(runs[CLEAN], rows, reference)
    write_text_atomically(path, json.dumps(without_nan(content), indent=1) + "\n")
    return content


def open_detector(options: CorruptionOptions) -> FrameDetector:
    """Load the weights, and add what the options ask for.

    Raises:
        FileNotFoundError: the weights do not exist.
        ValueError: the weights are damaged, or an option does not fit the model.
    """
    detector: FrameDetector = load_detector(
        options.model,
        choose_device(options.device),
        verify=options.verify,
        precision=options.precision,
    )
    if options.mirror:
        detector = MirroredDetector(detector)
    detector = BlindFrameDetector(detector, health=options.health)
    return TrackedDetector(detector) if options.track else detector


def describe_inputs(options: CorruptionOptions, dataset: NuScenesDataset) -> dict[str, Any]:
    """Identify model, data and mode; finished runs are reused only for equal ones."""
    tables = dataset.tables
    precision = choose_precision(options.precision, choose_device(options.device))
    tokens = "\n".join(dataset.sample_token(index) for index in range(len(dataset)))
    return {
        "model": {"file": options.model.name, "sha256": hash_file(options.model)},
        "data": {
            "version": tables.version,
            "digest": read_manifest(tables.root).get("digest") or hash_tables(tables),
            "scenes": list(dataset.scene_names),
            "samples": len(dataset),
            "samples_sha256": hashlib.sha256(tokens.encode()).hexdigest(),
            **({"classes": dict(tables.given_classes)} if tables.given_classes else {}),
        },
        "mode": {
            "as_published": options.as_published,
            "health": options.health,
            "mirror": options.mirror,
            "track": options.track,
            **({} if precision == FLOAT32 else {"precision": precision}),
        },
    }


def _finish_run(
    options: CorruptionOptions,
    detector: FrameDetector,
    dataset: NuScenesDataset,
    inputs: Mapping[str, Any],
    corruption: Corruption | None,
    level: str,
    echo: Echo,
) -> Figures:
    """Return the figures of one corruption and level; make them unless they are finished."""
    name = level if corruption is None else f"{corruption.name}_{level}"
    path = options.out / "runs" / f"{name}.json"
    finished = read_finished(path, inputs)
    if finished is not None:
        echo(f"{name:22} already finished")
        return finished
    started = time.perf_counter()
    # Scenes of a stopped run are in a folder of this name; those of other inputs must not be used.
    mark = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
    results = options.out / "results" / f"{name}_{mark}.json"
    corrupted = corrupted_frames(
        dataset,
        corruption,
        level=LEVELS[0] if corruption is None else level,
        black=options.as_published,
    )
    predict_dataset(detector, corrupted, results)
    scored = score(load(results, dataset.tables, dataset.scene_names))
    figures = {
        **overall(scored.metrics),
        "boxes": len(scored.loaded.submission.boxes),
        "cameras": 1.0 if corruption is None else share_of_cameras(dataset, corruption, level),
        "classes": {c.name: {"AP": c.average_precision} for c in scored.metrics.classes},
        "seconds": round(time.perf_counter() - started, 1),
    }
    if corruption is None:
        figures["left"] = score_left(dataset, scored.loaded)
    write_finished(path, inputs, figures)
    results.unlink()
    echo(f"{name:22} NDS {figures['NDS']:.4f}  {figures['seconds']:.0f} s")
    reported: Figures = without_nan(figures)
    return reported


def score_left(dataset: NuScenesDataset, clean: Loaded) -> dict[str, float]:
    """Return the mAP of clean boxes in the pictures that remain, by "corruption level".

    It is what a detector would reach whose boxes of the remaining cameras are as good as without
    loss. It falls faster than the share of cameras: the metric counts precision from a recall of
    0.1 on, which many classes then do not reach.
    """
    found = {}
    for corruption in CORRUPTIONS.values():
        if not corruption.loses_cameras:
            continue
        for level in LEVELS:
            kept = in_cameras_left(dataset, clean.submission.boxes, corruption, level)
            boxes = clean.submission.boxes[kept]
            left = Loaded(Submission(clean.submission.meta, boxes), clean.truth, clean.samples)
            found[f"{corruption.name} {level}"] = overall(score(left).metrics)["mAP"]
    return found


def summarise(
    clean: Figures,
    rows: Mapping[str, Mapping[str, Figures]],
    reference: tuple[str, Mapping[str, Sequence[float]]] | None,
) -> dict[str, Any]:
    """Return all figures with the rates and errors of each corruption and their means.

    RR and mRR are None if NDS without corruption is 0; CE and mCE without a reference.
    """
    scores = {name: [row[level]["NDS"] for level in LEVELS] for name, row in rows.items()}
    rates = resilience_rates(scores, clean["NDS"]) if clean["NDS"] > 0 else None
    errors = None if reference is None else corruption_errors(scores, reference[1])
    corruptions = {
        name: {
            **row,
            "RR": None if rates is None else rates[name],
            "CE": None if errors is None else errors[name],
        }
        for name, row in rows.items()
    }
    return {
        "clean": clean,
        "corruptions": corruptions,
        "mRR": None if rates is None else mean_of(rates),
        "mCE": None if errors is None else mean_of(errors),
        "reference": None if reference is None else reference[0],
    }
