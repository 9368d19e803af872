"""Checks of the files of a version: presence, readability, equality to the official files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bevstack.datasets.image_sizes import image_sizes
from bevstack.datasets.images import read_image
from bevstack.datasets.readiness.findings import Finding, summarise_faults
from bevstack.file_names import path_inside
from bevstack.files import naming
from bevstack.json_files import (
    expect_integer,
    expect_list,
    expect_object,
    expect_text,
    read_json,
    shorten,
)
from bevstack.tables.reader import Tables

MANIFEST_NAME = "official_sha256_size.json"
_BLOCK_BYTES = 1 << 20
_MAX_MANIFEST_BYTES = 1 << 28  # 100 bytes a file; nuScenes has 1.4 million
_LIDAR_POINT_BYTES = 20  # x, y, z, intensity, ring as float32


def check_presence(tables: Tables) -> list[Finding]:
    """Check that the files of all readings exist, by folder; only key-frame images matter."""
    keyframes = tables.keyframes
    is_image = tables.calibrated_sensors.is_camera[keyframes.sensor]
    needed = _absent(tables, keyframes.filename[is_image])
    optional = _absent(tables, keyframes.filename[~is_image])
    optional |= _absent(tables, tables.sweeps.filename)
    findings = []
    for folder, names in sorted(needed.items()):
        rule = f"all {len(keyframes.filename[is_image])} images of key frames must exist"
        missing = [f"no {folder}/{name}" for name in names]
        findings += summarise_faults(rule, range(len(missing)), missing.__getitem__)
    if optional:
        number = sum(map(len, optional.values()))
        sentence = (
            f"{number} files of lidar, radar and sweeps are missing, in {', '.join(optional)}: "
            "bevstack does not need them"
        )
        findings.append(Finding(sentence, matters=False))
    return findings


def check_versions(root: Path) -> list[Finding]:
    """Count the files of every version in a root against its tables."""
    findings = []
    for path in sorted(root.glob("*/sample_data.json")):
        version = path.parent.name
        try:
            found = check_presence(Tables(root, version))
        except (ValueError, OSError) as error:
            found = [Finding(str(error), matters=True)]
        findings += [Finding(f"{version}: {f.sentence}", f.matters) for f in found]
    return findings


def check_readability(tables: Tables) -> list[Finding]:
    """Check that key-frame images decode in the right size, and lidar files hold whole points."""
    keyframes = tables.keyframes
    is_image = tables.calibrated_sensors.is_camera[keyframes.sensor]
    errors: list[str] = []
    for row in np.flatnonzero(is_image):
        try:
            height, width = image_sizes(tables, np.array([row]))[0].tolist()
            # A reduction decodes the whole file, but computes fewer pixels.
            reduction = max((k for k in (1, 2, 4, 8) if height % k == width % k == 0), default=1)
            path = tables.file_path(str(keyframes.filename[row]))
            read_image(path, (height, width), reduction=reduction)
        except FileNotFoundError:
            continue  # reported by check_presence
        except (ValueError, OSError) as error:
            errors.append(str(error))
    findings = [Finding(error, matters=True) for error in errors[:3]]
    if len(errors) > 3:
        findings.append(Finding(f"{len(errors) - 3} more images cannot be read", matters=True))
    sweeps = [str(n) for n in keyframes.filename[~is_image] if str(n).endswith(".pcd.bin")]
    odd = [name for name in sweeps if _size(tables.file_path(name)) % _LIDAR_POINT_BYTES]
    return findings + summarise_faults(
        "lidar files must hold whole points",
        range(len(odd)),
        lambda k: f"{_size(tables.file_path(odd[k]))} bytes in {odd[k]}",
        matters=False,
    )


def check_official(root: Path, manifest: Path) -> list[Finding]:
    """Check that the files listed in the manifest are byte-identical to the official ones.

    Args:
        root: the folder that the manifest's names are relative to.
        manifest: a JSON file of ``{name: [SHA-256, size]}``.

    Raises:
        ValueError: the manifest has another format.
    """
    entries = read_json(manifest, "manifest", max_bytes=_MAX_MANIFEST_BYTES)
    known = {
        name: _manifest_entry(f"{shorten(name)} of manifest {manifest}", entry)
        for name, entry in expect_object(f"manifest {manifest}", entries).items()
    }
    paths = {name: path_inside(root, name, what=f"name in {manifest}") for name in known}
    present = [name for name in known if paths[name].is_file()]
    different: dict[str, list[str]] = {}
    for name in present:
        if not _has_digest(paths[name], *known[name]):
            different.setdefault(str(Path(name).parent), []).append(name)
    findings = []
    for folder, names in sorted(different.items()):
        rule = f"files of {folder} must equal the official ones, byte for byte"
        described = [f"a different {Path(name).name}" for name in names]
        findings += summarise_faults(rule, range(len(described)), described.__getitem__)
    if len(present) < len(known):
        missing = len(known) - len(present)
        sentence = f"{missing} of the {len(known)} official files are missing"
        findings.append(Finding(sentence, matters=False))
    return findings


def _manifest_entry(where: str, entry: object) -> tuple[str, int]:
    """Return the SHA-256 and the size of a file of the manifest."""
    values = expect_list(where, entry)
    if len(values) != 2:
        raise ValueError(f"{where} must be [SHA-256, size]; got {shorten(values)}")
    digest = expect_text(f"SHA-256 of {where}", values[0])
    return digest, expect_integer(f"size of {where}", values[1], low=0)


def _absent(tables: Tables, filenames: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of missing files by folder; every folder is listed only once."""
    listed: dict[str, set[str]] = {}
    absent: dict[str, list[str]] = {}
    for filename in filenames:
        folder, _, name = str(filename).rpartition("/")
        path = tables.file_path(str(filename)).parent
        if folder not in listed:
            listed[folder] = {e.name for e in os.scandir(path)} if path.is_dir() else set()
        if name not in listed[folder]:
            absent.setdefault(folder, []).append(name)
    return absent


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _has_digest(path: Path, digest: str, size: int) -> bool:
    if _size(path) != size:
        return False
    actual = hashlib.sha256()
    with naming(path), path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            actual.update(block)
    return actual.hexdigest() == digest
