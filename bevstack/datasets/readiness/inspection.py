"""Inspection of a nuScenes-format root: its contents, its faults and their remedies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bevstack.datasets.image_sizes import image_sizes
from bevstack.datasets.images import read_image
from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.datasets.readiness import soundness
from bevstack.datasets.readiness.file_checks import (
    MANIFEST_NAME,
    check_official,
    check_presence,
    check_readability,
)
from bevstack.datasets.readiness.findings import Finding
from bevstack.datasets.readiness.labels import check_labels
from bevstack.tables.columns import TableColumns
from bevstack.tables.fields import Paths
from bevstack.tables.names import TABLES
from bevstack.tables.reader import Tables
from bevstack.tables.splits import OFFICIAL_SPLITS, scenes_of_split


@dataclass(frozen=True)
class RootReport:
    """Contents and faults of a root."""

    scenes: int
    samples: int
    annotations: int
    samples_with_images: int
    splits: tuple[tuple[str, int], ...]  # official splits in the root, with their number of scenes
    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Return True if no finding matters."""
        return not any(finding.matters for finding in self.findings)


def inspect_root(root: Path | str, version: str, *, read_images: bool = False) -> RootReport:
    """Read all tables of a version and check that the images of its key frames exist.

    Args:
        root: the folder that holds ``samples/`` and the version's folder.
        version: the folder of the 13 tables.
        read_images: also decode every image and compare its size with the table's (about 25 ms per
            image at full size).

    Raises:
        FileNotFoundError: no such root or version, or a required table is missing.
        ValueError: a table is damaged or contradicts another one, or a calibration is invalid.
    """
    tables = Tables(root, version)
    dataset = NuScenesDataset(tables)
    missing = dataset.missing_images()
    findings = _missing_tables(tables) + _missing_maps(tables) + _missing_images(dataset, missing)
    if read_images:
        findings += _unreadable_images(dataset, missing)
    boxes = len(tables.annotations.token) if tables.has_annotations else 0
    findings += check_labels(tables)
    if not boxes:
        sentence = f"sample_annotation.json of {version} holds no boxes: usable for prediction only"
        findings.append(Finding(sentence, matters=False))
    return RootReport(
        scenes=len(tables.scenes.name),
        samples=len(dataset),
        annotations=boxes,
        samples_with_images=len(dataset) - len(missing),
        splits=_splits(tables),
        findings=tuple(findings),
    )


def check_root(root: Path | str, version: str, manifest: Path | None = None) -> RootReport:
    """Check every file and every number, which takes minutes at full size.

    In addition to the checks of `inspect_root`: files decode completely and equal the official
    ones, poses are continuous, calibrations plausible, times in order. A fault in one table does
    not hide faults in another.

    Args:
        root: the folder that holds ``samples/`` and the version's folder.
        version: the folder of the 13 tables.
        manifest: SHA-256 and size of the official files. None: the file
            ``official_sha256_size.json`` in the root, if it exists.

    Raises:
        FileNotFoundError: no such root or version.
    """
    tables = Tables(root, version)
    if manifest is None and (tables.root / MANIFEST_NAME).is_file():
        manifest = tables.root / MANIFEST_NAME
    checks: list[Callable[[], list[Finding]]] = [
        partial(check, tables)
        for check in (
            _missing_tables,
            _missing_maps,
            check_presence,
            check_readability,
            soundness.check_units,
            soundness.check_times,
            soundness.check_poses,
            soundness.check_calibrations,
            soundness.check_lenses,
            soundness.check_rigs,
            soundness.check_boxes,
            check_labels,
        )
    ]
    if manifest is not None:
        checks.append(partial(check_official, tables.root, manifest))
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except (ValueError, OSError) as error:
            findings.append(Finding(str(error), matters=True))
    unique = dict.fromkeys(findings)  # a faulty table fails every check that reads it
    return RootReport(
        scenes=_count(lambda: len(tables.scenes.name)),
        samples=_count(lambda: len(tables.samples.token)),
        annotations=_count(lambda: len(tables.annotations.token)),
        samples_with_images=_count(lambda: _samples_with_images(tables)),
        splits=_splits(tables),
        findings=tuple(sorted(unique, key=lambda finding: not finding.matters)),
    )


def _count(count: Callable[[], int]) -> int:
    """Return the count, or 0 if the tables cannot be read."""
    try:
        return count()
    except (ValueError, OSError):
        return 0


def _samples_with_images(tables: Tables) -> int:
    keyframes = tables.keyframes
    rows = tables.calibrated_sensors.is_camera[keyframes.sensor].nonzero()[0]
    missing = [k for k in rows if not tables.file_path(str(keyframes.filename[k])).is_file()]
    return len(tables.samples.token) - len(set(keyframes.sample[missing].tolist()))


def _missing_tables(tables: Tables) -> list[Finding]:
    """Report unreadable tables that bevstack does not need, but other nuScenes tools do."""
    findings = []
    for name in TABLES:
        try:
            TableColumns(tables.folder / f"{name}.json")
        except (FileNotFoundError, ValueError) as error:
            findings.append(Finding(str(error), matters=False))
    return findings


def _missing_maps(tables: Tables) -> list[Finding]:
    path = tables.folder / "map.json"
    if not path.is_file():
        return []
    names = TableColumns(path, {"filename": Paths()}).text("filename").tolist()
    absent = [name for name in names if not tables.file_path(name).is_file()]
    if not absent:
        return []
    return [
        Finding(
            f"pictures of all {len(names)} maps must exist for nuscenes-devkit to open the tables; "
            f"got none for {len(absent)}, such as {absent[0]}: unpack the maps into {tables.root} "
            "(bevstack does not need them)",
            matters=False,
        )
    ]


def _missing_images(dataset: NuScenesDataset, missing: dict[str, list[str]]) -> list[Finding]:
    by_folder = Counter(str(Path(name).parent) for names in missing.values() for name in names)
    first = {str(Path(n).parent): n for names in reversed(missing.values()) for n in names}
    return [
        Finding(
            f"images of all {len(dataset)} samples must exist; got none for {count} in {folder}, "
            f"such as {Path(first[folder]).name}: unpack the archives with key-frame images into "
            f"{dataset.root}, or leave those samples out (--skip-missing)",
            matters=True,
        )
        for folder, count in sorted(by_folder.items())
    ]


def _unreadable_images(dataset: NuScenesDataset, missing: dict[str, list[str]]) -> list[Finding]:
    absent = {name for names in missing.values() for name in names}
    keyframes = dataset.tables.keyframes
    is_camera = dataset.tables.calibrated_sensors.is_camera[keyframes.sensor]
    findings = []
    for row in is_camera.nonzero()[0]:
        name = str(keyframes.filename[row])
        if name in absent:
            continue
        try:
            height, width = image_sizes(dataset.tables, np.array([row]))[0].tolist()
            read_image(dataset.tables.file_path(name), (height, width))
        except ValueError as error:
            findings.append(Finding(str(error), matters=True))
    return findings


def _splits(tables: Tables) -> tuple[tuple[str, int], ...]:
    splits = []
    for split, ending in OFFICIAL_SPLITS.items():
        if not tables.version.endswith(ending):
            continue
        try:
            splits.append((split, len(scenes_of_split(tables, split))))
        except (ValueError, OSError, ImportError):
            continue  # none of its scenes in the root, or its list needs the devkit
    return tuple(splits)
