"""Fingerprints of scenes that are equal on all machines.

Two machines make the same bytes if they have the same versions of numpy, numba and OpenCV and the
same kind of processor. Between other machines, the last bits of sines and the JPEG encoder differ.
A fingerprint therefore has two parts:

- A digest of the tables, with values rounded far above such bits and far below anything that
  matters to a detector or a score.
- Mean grey levels of the first image of each camera on a coarse grid, compared with a tolerance.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bevstack.synthetic.recording.labels import Row
from bevstack.synthetic.recording.recording import Recording, record_scene
from bevstack.synthetic.spec import WorldSpec
from bevstack.vocabulary import CAMERA_CHANNELS

# Values are rounded to 1e-4 (0.1 mm, 0.1 mrad, 1e-4 px) before hashing. Machines differ by about
# 1e-12, so about one value in 1e8 is so close to a rounding limit that it rounds differently.
_DECIMALS = 4
_GRID = (2, 4)  # rows and columns of a thumbnail
_TOLERANCE = 2.0  # grey levels between two thumbnails: encoders differ by less than 1


@dataclass(frozen=True)
class SceneFingerprint:
    """Properties of one scene that are equal on every machine."""

    tables: str  # SHA-256 of the rounded rows
    thumbnails: tuple[int, ...]  # mean grey of each cell, cameras of the first sample

    def differences(self, other: SceneFingerprint) -> list[str]:
        """Return a description of each difference; an empty list if there is none."""
        described = []
        if self.tables != other.tables:
            described.append(f"tables ({self.tables[:12]} against {other.tables[:12]})")
        gap = np.abs(np.subtract(self.thumbnails, other.thumbnails)).max()
        if gap > _TOLERANCE:
            described.append(f"pictures (by {gap} grey levels)")
        return described


def fingerprint_scene(spec: WorldSpec, name: str) -> SceneFingerprint:
    """Make a scene in a temporary folder and return its fingerprint."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        recording = record_scene(spec, name, root)
        return SceneFingerprint(_digest(recording), _thumbnails(recording, root))


def check_scenes(
    spec: WorldSpec, frozen: Mapping[str, SceneFingerprint], names: Iterable[str]
) -> dict[str, list[str]]:
    """Make scenes and compare them with frozen fingerprints.

    Returns:
        The differences by scene name; equal scenes are absent.

    Raises:
        KeyError: a name was not frozen.
    """
    compared = {name: frozen[name].differences(fingerprint_scene(spec, name)) for name in names}
    return {name: differences for name, differences in compared.items() if differences}


def overall_digest(scenes: Mapping[str, SceneFingerprint]) -> str:
    """Return one SHA-256 over the tables of all scenes in the order of their names."""
    lines = "".join(f"{scenes[name].tables}  {name}\n" for name in sorted(scenes))
    return hashlib.sha256(lines.encode()).hexdigest()


def write_fingerprints(path: Path, spec: WorldSpec, scenes: Mapping[str, SceneFingerprint]) -> None:
    """Write a file for `read_fingerprints`, one scene per line."""
    lines = [
        f'  "{name}": {json.dumps([scene.tables, *scene.thumbnails])}'
        for name, scene in sorted(scenes.items())
    ]
    head = f'"spec": {json.dumps(spec.to_json())},\n"digest": "{overall_digest(scenes)}"'
    path.write_text("{" + head + ',\n"scenes": {\n' + ",\n".join(lines) + "\n}}\n")


def read_fingerprints(path: Path) -> tuple[dict[str, object], dict[str, SceneFingerprint]]:
    """Return the frozen specification as JSON values, and the fingerprints by scene name."""
    frozen = json.loads(path.read_text())
    scenes = {
        name: SceneFingerprint(values[0], tuple(values[1:]))
        for name, values in frozen["scenes"].items()
    }
    return frozen["spec"], scenes


def _digest(recording: Recording) -> str:
    tables: dict[str, list[Row]] = {**recording.rows, **recording.extra_rows}
    text = json.dumps(
        {name: [_rounded(row) for row in rows] for name, rows in sorted(tables.items())},
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, _DECIMALS) + 0.0  # no negative zero
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    return value


def _thumbnails(recording: Recording, root: Path) -> tuple[int, ...]:
    cells: list[int] = []
    for channel in CAMERA_CHANNELS:
        pictures = [p for p in recording.digests if p.startswith(f"samples/{channel}/")]
        if not pictures:
            continue  # a world of fewer cameras
        first = min(pictures)
        grey = cv2.imread(str(root / first), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            raise OSError(f"picture must be readable; got {root / first}")
        small = cv2.resize(grey, _GRID[::-1], interpolation=cv2.INTER_AREA)
        cells += [int(v) for v in small.ravel()]
    return tuple(cells)
