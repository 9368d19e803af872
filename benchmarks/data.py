"""Measures what stands between the disk and the network.

    python -m benchmarks.run data --images data/nuscenes/samples --json data.json
    python benchmarks/full_size_tables.py out/full_tables
    python -m benchmarks.run data --tables out/full_tables --version v1.0-trainval

Images: six JPEGs as one sample of model input, against the steps of the released BEVFormer v2 code
(Pillow's decoder, float32, crop and resize by Pillow, mean and padding in numpy), in turns on one
thread; CPU time a sample. Freed memory stays with the process for both, as it does in the
package's loading processes; ``--memory fresh`` gets it from the system anew. Tables: opened first
without and then with their file of columns, each in a process of its own, from warm pages; wall
and CPU time and the peak of resident memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.timing import load, machine, spent
from bevstack.config import AugmentationConfig, ImageConfig
from bevstack.datasets.images import read_image
from bevstack.datasets.preprocess import decoding_reduction, preprocess, target_size
from bevstack.datasets.worker_process import keep_freed_memory
from bevstack.tables.cache import FILE_NAME
from bevstack.types import Frame

SUMMARY = "images from JPEG to model input, and the opening of tables"
SIZES = ((640, 1600), (320, 800), (256, 640), (128, 320))
MEAN = (123.675, 116.28, 103.53)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, and for how long."""
    parser.add_argument("--images", type=Path, help="a folder with JPEGs, looked for below it")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each figure (default 10)")
    parser.add_argument(
        "--memory",
        choices=("kept", "fresh"),
        default="kept",
        help="whether freed memory stays with the process or is got from the system anew",
    )
    parser.add_argument("--tables", type=Path, help="a root whose tables are opened")
    parser.add_argument("--version", default="v1.0-trainval", help="the folder of those tables")


def released_way(paths: list[Path], config: ImageConfig) -> np.ndarray:
    """Six JPEGs as the released code makes them model input, (N, 3, H, W) float32."""
    images = []
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(np.float32)
        picture = Image.fromarray(np.uint8(pixels))
        kept = round(picture.height * config.keep_bottom)
        picture = picture.crop((0, picture.height - kept, picture.width, picture.height))
        height, width = target_size((kept, picture.width), config)
        picture = picture.resize((width, height))
        pixels = np.array(picture).astype(np.float32) - np.array(MEAN, dtype=np.float32)
        below, right = (-side % config.pad_to for side in (height, width))
        images.append(np.pad(pixels, ((0, below), (0, right), (0, 0))))
    stacked = np.stack([image.transpose(2, 0, 1) for image in images])
    return np.ascontiguousarray(stacked)


def own_way(paths: list[Path], config: ImageConfig, size: tuple[int, int]) -> torch.Tensor:
    """The same by the package, decoded at part of the size where that is enough."""
    reduction = decoding_reduction(size, config, AugmentationConfig())
    images = [read_image(path, size, reduction=reduction) for path in paths]
    frame = Frame(
        images=images,
        intrinsics=np.tile(np.diag([1200 / reduction, 1200 / reduction, 1.0]), (len(paths), 1, 1)),
        ego_from_cam=np.tile(np.eye(4), (len(paths), 1, 1)),
    )
    return preprocess(frame, config).images


def measure_images(paths: list[Path], wanted: tuple[int, int], seconds: float) -> dict[str, Any]:
    """Both ways in turns; a row of the result."""
    config = ImageConfig(size=wanted, mean=MEAN, std=(1.0, 1.0, 1.0))
    height, width = read_image(paths[0]).shape[:2]
    size = (height, width)
    ours, theirs = own_way(paths, config, size).numpy(), released_way(paths, config)
    difference = float(np.sqrt(((ours - theirs) ** 2).mean()))
    if ours.shape != theirs.shape or difference > 2.0:
        raise RuntimeError(f"{wanted}: the two differ by {difference} levels RMS")
    runs = [lambda: own_way(paths, config, size), lambda: released_way(paths, config)]
    own, released = spent(runs, seconds, wall=False)
    return {
        "size": list(wanted),
        "decoded_at": f"1/{decoding_reduction(size, config, AugmentationConfig())}",
        "bevstack_ms": round(own.ms, 1),
        "released_ms": round(released.ms, 1),
        "speedup": round(released.ms / own.ms, 2),
        "speedup_of_the_best": round(released.best_ms / own.best_ms, 2),
        "system_share": [round(own.system_share, 3), round(released.system_share, 3)],
        "difference_rms_levels": round(difference, 2),
    }


OPEN = """
import json, resource, sys, time
from bevstack.tables.reader import Tables
wall, cpu = time.perf_counter(), time.process_time()
tables = Tables(sys.argv[1], sys.argv[2], cache=True)
rows = {name: len(getattr(tables, name).token) for name in
        ("scenes", "samples", "keyframes", "sweeps", "annotations")}
tables.annotations_of(0), tables.keyframes_of(0), tables.samples_of_scene(0)
own, child = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({
    "wall_s": round(time.perf_counter() - wall, 2),
    "cpu_s": round(time.process_time() - cpu + child.ru_utime + child.ru_stime, 2),
    "peak_gb": round((own.ru_maxrss + child.ru_maxrss) / 1e6, 2),
    "rows": rows,
}))
"""


def measure_tables(root: Path, version: str) -> dict[str, Any]:
    """First without and then with the file of columns."""
    folder = root / version
    for path in folder.glob("*.json"):  # into the page cache
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
    (folder / FILE_NAME).unlink(missing_ok=True)
    result: dict[str, Any] = {}
    for what in ("first", "again"):
        command = [sys.executable, "-c", OPEN, str(root), version]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        result[what] = json.loads(done.stdout)
    result["json_gb"] = round(sum(p.stat().st_size for p in folder.glob("*.json")) / 1e9, 2)
    result["columns_gb"] = round((folder / FILE_NAME).stat().st_size / 1e9, 2)
    return result


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Prints a line for each figure as it is measured and returns all of it."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    kept = arguments.memory == "kept" and keep_freed_memory()
    result: dict[str, Any] = {
        "machine": machine(),
        "load": load(),
        "clock": "CPU time of one thread",
        "memory": "kept" if kept else "fresh",
    }
    if arguments.images:
        paths = sorted(arguments.images.rglob("*.jpg"))[:6]
        result["images"] = []
        print(f"{'size':>12}{'decoded at':>12}{'ours ms':>10}{'released ms':>13}{'x':>7}")
        for size in SIZES:
            row = measure_images(paths, size, arguments.seconds)
            result["images"].append(row)
            print(
                f"{size[0]:>7}x{size[1]:<4}{row['decoded_at']:>12}{row['bevstack_ms']:>10}"
                f"{row['released_ms']:>13}{row['speedup']:>7}",
                flush=True,
            )
    if arguments.tables:
        result["tables"] = measure_tables(arguments.tables, arguments.version)
        for what in ("first", "again"):
            figures = result["tables"][what]
            print(
                f"tables {what}: {figures['wall_s']} s, {figures['cpu_s']} s of CPU, "
                f"{figures['peak_gb']} GB"
            )
    return result
