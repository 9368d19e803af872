"""The same scenes of a synthetic world, seen by cameras that are really turned."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bevstack.files import write_text_atomically
from bevstack.synthetic import WorldSpec
from bevstack.synthetic.recording.labels import fixed_rows
from bevstack.synthetic.recording.recording import record_scene
from bevstack.synthetic.spec import GENERATOR_VERSION
from bevstack.synthetic.world import MANIFEST
from bevstack.tables.writer import write_tables

SCENES = "turned_scenes.json"  # written last


def world_spec(root: Path) -> WorldSpec:
    """What the world below a root was made of.

    Raises:
        ValueError: it is no synthetic world, or one of another generator.
    """
    manifest = read_manifest(root)
    if manifest.get("generator_version") != GENERATOR_VERSION:
        raise ValueError(
            f"{root} must be a synthetic world of generator {GENERATOR_VERSION}, to be seen by "
            f"turned cameras; got {manifest.get('generator_version')}: make it anew, or leave "
            "that row out with --only"
        )
    fields: dict[str, Any] = dict(manifest["spec"])
    return WorldSpec(**{**fields, "image_size": tuple(fields["image_size"])})


def read_manifest(root: Path) -> Mapping[str, Any]:
    """What a synthetic world says of itself; empty where there is none."""
    path = root / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def make_turned_scenes(root: Path, scenes: Sequence[str], yaw_deg: float, out: Path) -> Path:
    """Makes some scenes of a world again, all cameras turned where they stand, and told so.

    Nothing else differs: objects, light, noise, tokens; nor do the boxes that scoring counts (of
    those without a lidar point, the ones are listed that a camera sees). What lies there already
    is not made again.

    Args:
        root: of the world.
        scenes: names.
        yaw_deg: counter-clockwise seen from above.
        out: root of the turned scenes.

    Raises:
        ValueError: ``root`` is no synthetic world, or ``out`` holds other scenes.
    """
    spec = replace(world_spec(root), camera_yaw_deg=yaw_deg, processes=1)
    wanted = {"spec": spec.to_json(), "scenes": list(scenes), "generator": GENERATOR_VERSION}
    mark = out / SCENES
    if mark.is_file():
        if json.loads(mark.read_text(encoding="utf-8")) != wanted:
            raise ValueError(f"{out} must hold these very scenes; got others: remove it")
        return out
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        tables = fixed_rows()
        for name in scenes:
            for table, rows in record_scene(spec, name, part).rows.items():
                tables[table] += rows
        write_tables(part / spec.version, tables)
        write_text_atomically(part / SCENES, json.dumps(wanted))
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out
