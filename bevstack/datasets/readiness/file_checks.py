"""Are the files of a version there, do they read, and are they the official ones."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bevstack.datasets.images import read_image
from bevstack.datasets.readiness.findings import Finding, found
from bevstack.tables.reader import Tables

MANIFEST_NAME = "official_sha256_size.json"
_BLOCK_BYTES = 1 << 20
_LIDAR_POINT_BYTES = 20  # x, y, z, intensity, ring as float32


def check_presence(tables: Tables) -> list[Finding]:
    """Files of all readings, folder by folder; only images of key frames matter."""
    keyframes = tables.keyframes
    is_image = tables.calibrated_sensors.is_camera[keyframes.sensor]
    needed = _absent(tables.root, keyframes.filename[is_image])
    optional = _absent(tables.root, keyframes.filename[~is_image])
    optional |= _absent(tables.root, tables.sweeps.filename)
    findings = []
    for folder, names in sorted(needed.items()):
        rule = f"all {len(keyframes.filename[is_image])} images of key frames must exist"
        findings += found(
            rule,
            range(len(names)),
            lambda k, names=names, folder=folder: (  # type: ignore[misc]
                f"no {folder}/{names[k]}"
            ),
        )
    if optional:
        number = sum(map(len, optional.values()))
        sentence = (
            f"{number} files of lidar, radar and sweeps are not there, in {', '.join(optional)}: "
            "bevstack does without them"
        )
        findings.append(Finding(sentence, matters=False))
    return findings


def check_readability(tables: Tables) -> list[Finding]:
    """Every image of a key frame decodes whole and is of its size; lidar sweeps hold points."""
    keyframes = tables.keyframes
    is_image = tables.calibrated_sensors.is_camera[keyframes.sensor]
    errors: list[str] = []
    for row in np.flatnonzero(is_image):
        height, width = keyframes.size[row].tolist()
        # All of the file is decoded, but fewer pixels are computed.
        reduction = max((k for k in (1, 2, 4, 8) if height % k == width % k == 0), default=1)
        try:
            path = tables.root / str(keyframes.filename[row])
            read_image(path, (height, width), reduction=reduction)
        except FileNotFoundError:
            continue  # told by check_presence
        except (ValueError, OSError) as error:
            errors.append(str(error))
    findings = [Finding(error, matters=True) for error in errors[:3]]
    if len(errors) > 3:
        findings.append(Finding(f"{len(errors) - 3} more images cannot be read", matters=True))
    sweeps = [str(n) for n in keyframes.filename[~is_image] if str(n).endswith(".pcd.bin")]
    odd = [name for name in sweeps if _size(tables.root / name) % _LIDAR_POINT_BYTES]
    return findings + found(
        "lidar files must hold whole points",
        range(len(odd)),
        lambda k: f"{_size(tables.root / odd[k])} bytes in {odd[k]}",
        matters=False,
    )


def check_official(root: Path, manifest: Path) -> list[Finding]:
    """Files that the manifest knows are byte-identical to the official ones.

    Args:
        root: the folder that the manifest's names are relative to.
        manifest: a JSON file of ``{name: [SHA-256, size]}``.

    Raises:
        ValueError: the manifest is of another form.
    """
    try:
        known = {
            str(name): (str(digest), int(size))
            for name, (digest, size) in json.loads(manifest.read_bytes()).items()
        }
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            f"manifest must map file names to [SHA-256, size]; got another form in {manifest}"
        ) from None
    here = [name for name in known if (root / name).is_file()]
    other: dict[str, list[str]] = {}
    for name in here:
        if not _is(root / name, *known[name]):
            other.setdefault(str(Path(name).parent), []).append(name)
    findings = []
    for folder, names in sorted(other.items()):
        findings += found(
            f"files of {folder} must be the official ones, byte for byte",
            range(len(names)),
            lambda k, names=names: f"another {Path(names[k]).name}",  # type: ignore[misc]
        )
    if len(here) < len(known):
        sentence = f"{len(known) - len(here)} of the {len(known)} official files are not here"
        findings.append(Finding(sentence, matters=False))
    return findings


def _absent(root: Path, filenames: Iterable[str]) -> dict[str, list[str]]:
    """Names of files that are not there, by folder; each folder is listed once."""
    listed: dict[str, set[str]] = {}
    absent: dict[str, list[str]] = {}
    for filename in filenames:
        folder, _, name = str(filename).rpartition("/")
        if folder not in listed:
            path = root / folder
            listed[folder] = {e.name for e in os.scandir(path)} if path.is_dir() else set()
        if name not in listed[folder]:
            absent.setdefault(folder, []).append(name)
    return absent


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _is(path: Path, digest: str, size: int) -> bool:
    if _size(path) != size:
        return False
    found_digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found_digest.update(block)
    return found_digest.hexdigest() == digest
