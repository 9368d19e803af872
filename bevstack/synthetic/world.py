"""Worlds on disk: all scenes of a specification, their tables and splits."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bevstack.file_bytes import read_bytes
from bevstack.files import replacing_folder
from bevstack.json_files import read_json
from bevstack.synthetic.recording.labels import Rows, fixed_rows
from bevstack.synthetic.recording.recording import Recording, record_scene
from bevstack.synthetic.spec import GENERATOR_VERSION, WorldSpec, WorldSummary
from bevstack.tables.names import CATEGORY_TO_CLASS, LANE_TABLE, TABLES, TRAFFIC_ELEMENT_TABLE
from bevstack.tables.writer import write_json, write_tables
from bevstack.vocabulary import DETECTION_CLASSES

MANIFEST = "world.json"  # written last: a folder that contains it is complete
Progress = Callable[[int, int], None]  # finished scenes, all scenes


def world_is_complete(out_dir: Path | str, spec: WorldSpec) -> bool:
    """Return True if a folder holds a complete world of this specification, with all its files."""
    root = Path(out_dir)
    manifest = _read_manifest(root)
    if manifest is None or manifest.get("spec") != spec.to_json():
        return False
    if manifest.get("generator_version") != GENERATOR_VERSION:
        return False
    return manifest.get("files") == _count_files(root)


def make_world(
    out_dir: Path | str, spec: WorldSpec, progress: Progress | None = None
) -> WorldSummary:
    """Make a world in nuScenes' format, unless the folder already holds it.

    The world is built in a neighbouring folder and moved when it is complete. The bytes depend on
    the specification alone, not on the number of processes.

    Args:
        out_dir: root folder of the data set; must be absent, empty, or hold the same world.
        spec: of the world.
        progress: called after each scene.

    Raises:
        FileExistsError: the folder holds other files or another world.
        OSError: the folder cannot be written.
    """
    root = Path(out_dir).absolute()
    if world_is_complete(root, spec):
        return _summary(root, seconds=0.0, cpu_seconds=0.0)
    _refuse_occupied(root, spec)
    started, cpu_started = time.perf_counter(), _cpu_seconds()
    with contextlib.ExitStack() as stack:
        try:
            part = stack.enter_context(replacing_folder(root))
        except OSError as error:
            raise OSError(
                f"out_dir must lie in a folder that can be written; got {root} "
                f"({error.strerror}): choose another folder or change its permissions"
            ) from error
        _write_world(part, spec, progress)
    return _summary(
        root,
        seconds=time.perf_counter() - started,
        cpu_seconds=_cpu_seconds() - cpu_started,
    )


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of its finished children."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _refuse_occupied(root: Path, spec: WorldSpec) -> None:
    """Raise FileExistsError unless a folder is absent or empty."""
    if not root.exists():
        return
    if not root.is_dir():
        raise FileExistsError(f"out_dir must be a folder; got the file {root}")
    if not any(root.iterdir()):
        return
    remedy = "choose another folder or remove it first"
    manifest = _read_manifest(root)
    if manifest is None:
        raise FileExistsError(
            f"out_dir must be absent, empty or a finished world; got {root}, "
            f"which holds other files: {remedy}"
        )
    old, new = manifest.get("spec", {}), spec.to_json()
    differing = [k for k in new if not isinstance(old, dict) or old.get(k) != new[k]]
    reason = f"differs in {', '.join(differing)}" if differing else "is damaged or outdated"
    raise FileExistsError(
        f"out_dir must hold the requested world; got {root}, whose world {reason}: {remedy}"
    )


def _read_manifest(root: Path) -> dict[str, object] | None:
    try:
        manifest = read_json(root / MANIFEST, "manifest")
    except (FileNotFoundError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _count_files(root: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(root, onerror=_raise))


def _raise(error: OSError) -> None:
    """Raise an error that `os.walk` would ignore."""
    raise error


def _recordings(spec: WorldSpec, names: tuple[str, ...], part: Path) -> Iterator[Recording]:
    """Yield the recording of every scene in the order of the names."""
    if spec.processes == 1:
        for name in names:
            yield record_scene(spec, name, part)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(spec.processes, len(names)), mp_context=context) as pool:
        yield from pool.map(record_scene, [spec] * len(names), names, [part] * len(names))


def _write_world(part: Path, spec: WorldSpec, progress: Progress | None) -> None:
    tables: Rows = fixed_rows()
    extra: Rows = {TRAFFIC_ELEMENT_TABLE: [], LANE_TABLE: []}
    digests: dict[str, str] = {}
    names = tuple(name for scenes in spec.split_scenes.values() for name in scenes)
    for done, recording in enumerate(_recordings(spec, names, part), start=1):
        for table, rows in recording.rows.items():
            tables[table] += rows
        for table, rows in recording.extra_rows.items():
            extra.setdefault(table, []).extend(rows)
        digests.update(recording.digests)
        if progress is not None:
            progress(done, len(names))
    folder = part / spec.version
    write_tables(folder, tables)
    write_json(folder / "splits.json", splits_of(spec))
    for table, rows in extra.items():
        write_json(folder / f"{table}.json", rows)
    for path in [*(f"{spec.version}/{t}.json" for t in (*TABLES, "splits", *extra))]:
        digests[path] = hashlib.sha256(read_bytes(part / path, "table", max_bytes=None)).hexdigest()
    lines = "".join(f"{digests[path]}  {path}\n" for path in sorted(digests))
    manifest = {
        "generator_version": GENERATOR_VERSION,
        "spec": spec.to_json(),
        "files": _count_files(part) + 1,
        "digest": hashlib.sha256(lines.encode()).hexdigest(),
        **_counts(tables),
    }
    write_json(part / MANIFEST, manifest)


def splits_of(spec: WorldSpec) -> dict[str, list[str]]:
    """Return the contents of `splits.json`: the scenes under the devkit's name of each split."""
    return {f"synth_{split}": list(names) for split, names in spec.split_scenes.items()}


def _counts(tables: Rows) -> dict[str, object]:
    categories = {row["token"]: str(row["name"]) for row in tables["category"]}
    owner = {row["token"]: categories[row["category_token"]] for row in tables["instance"]}
    per_class = dict.fromkeys(DETECTION_CLASSES, 0)
    for row in tables["sample_annotation"]:
        name = CATEGORY_TO_CLASS.get(owner[row["instance_token"]])
        if name is not None:
            per_class[name] += 1
    return {
        "scenes": len(tables["scene"]),
        "samples": len(tables["sample"]),
        "annotations": len(tables["sample_annotation"]),
        "annotations_per_class": per_class,
    }


def _summary(root: Path, seconds: float, cpu_seconds: float) -> WorldSummary:
    manifest = read_json(root / MANIFEST, "manifest")
    return WorldSummary(
        root=str(root),
        version=manifest["spec"]["version"],
        scenes=manifest["scenes"],
        samples=manifest["samples"],
        annotations=manifest["annotations"],
        annotations_per_class=manifest["annotations_per_class"],
        digest=manifest["digest"],
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )
