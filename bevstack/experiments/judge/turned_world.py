"""Scenes of a synthetic world, rendered again with cameras that are really turned."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bevstack.files import replacing_folder, write_text_atomically
from bevstack.json_files import (
    expect_flag,
    expect_integer,
    expect_list,
    expect_number,
    expect_object,
    expect_text,
    read_json,
    shorten,
)
from bevstack.synthetic import WorldSpec
from bevstack.synthetic.recording.labels import fixed_rows
from bevstack.synthetic.recording.recording import record_scene
from bevstack.synthetic.spec import GENERATOR_VERSION
from bevstack.synthetic.world import MANIFEST
from bevstack.tables.writer import write_tables

SCENES = "turned_scenes.json"  # written last


def world_spec(root: Path) -> WorldSpec:
    """Return the specification of the synthetic world in a folder.

    Raises:
        ValueError: the folder holds no synthetic world, or a world of another generator version.
    """
    manifest = read_manifest(root)
    version = manifest.get("generator_version")
    if version != GENERATOR_VERSION or isinstance(version, (bool, float)):
        raise ValueError(
            f"{root} must be a synthetic world of generator {GENERATOR_VERSION}, to be rendered "
            f"with turned cameras; got {shorten(version)}: make the world again, "
            "or leave that row out with --only"
        )
    where = f"spec in the manifest of {root}"
    fields = expect_object(where, manifest.get("spec"))
    size = expect_list(f"image_size of the {where}", fields.get("image_size"))
    if len(size) != 2:
        raise ValueError(f"image_size of the {where} must be 2 numbers; got {shorten(size)}")
    for name, value in {**fields, "height": size[0], "width": size[1]}.items():
        _check_kind(f"{name[:60]} of the {where}", name, value)
    return WorldSpec(**{**fields, "image_size": (size[0], size[1])})


def _check_kind(where: str, name: str, value: object) -> None:
    """Check that a field of a specification has the kind of the field of ``WorldSpec``."""
    kinds = {field.name: field.type for field in dataclasses.fields(WorldSpec)}
    kind = kinds.get(name, "int" if name in ("height", "width") else None)
    if kind is None:
        raise ValueError(f"{where} must be a field of this generator; got {shorten(value)}")
    if kind == "str":
        expect_text(where, value)
    elif kind == "bool":
        expect_flag(where, value)
    elif kind == "float":
        expect_number(where, value)
    elif kind == "int":
        expect_integer(where, value)


def read_manifest(root: Path) -> Mapping[str, Any]:
    """Read the manifest of a synthetic world; empty if the folder holds none."""
    path = root / MANIFEST
    if not path.is_file():
        return {}
    return expect_object(f"manifest {path}", read_json(path, "manifest"))


def make_turned_scenes(root: Path, scenes: Sequence[str], yaw_deg: float, out: Path) -> Path:
    """Render some scenes of a world again, with all cameras turned about their positions.

    The calibration is turned too. Objects, light, noise and tokens stay the same, and so do the
    boxes that the metric counts. Of the boxes without a lidar point, those that a camera sees are
    listed. Finished scenes in ``out`` are not made again.

    Args:
        root: folder of the world.
        scenes: names of the scenes.
        yaw_deg: counter-clockwise seen from above.
        out: folder of the turned scenes.

    Returns:
        ``out``.

    Raises:
        ValueError: ``root`` is no synthetic world, or ``out`` holds other scenes.
    """
    spec = replace(world_spec(root), camera_yaw_deg=yaw_deg, processes=1)
    request = {"spec": spec.to_json(), "scenes": list(scenes), "generator": GENERATOR_VERSION}
    request_file = out / SCENES
    if request_file.is_file():
        if read_json(request_file, "list of turned scenes") != request:
            raise ValueError(
                f"{out} must hold the same scenes of the same world; got different ones: remove it"
            )
        return out
    with replacing_folder(out) as part:
        tables = fixed_rows()
        for name in scenes:
            for table, rows in record_scene(spec, name, part).rows.items():
                tables[table] += rows
        write_tables(part / spec.version, tables)
        write_text_atomically(part / SCENES, json.dumps(request))
    return out
