"""Benchmark of data loading, from files on disk to the input of the network.

    python -m benchmarks.run data --images data/nuscenes/samples --json data.json
    python benchmarks/full_size_tables.py out/full_tables
    python -m benchmarks.run data --tables out/full_tables --version v1.0-trainval

Images: loading six JPEGs as one sample of model input, against the steps of the released BEVFormer
v2 code (Pillow's decoder, float32, crop and resize by Pillow, mean and padding in numpy). Both run
alternately on one thread; a figure is the CPU time of a sample. For both, the process keeps freed
memory, like the package's loading processes do; with ``--memory fresh`` it gets memory from the
system again each time.

Tables: opening them first without and then with their file of columns, each in a separate process,
from a warm page cache. Figures are wall time, CPU time and the peak of resident memory.
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

from benchmarks.timing import load, machine, time_runs
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
    """Add the options: inputs and duration."""
    parser.add_argument("--images", type=Path, help="folder to search for JPEGs, recursively")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="duration of each figure (default 10)"
    )
    parser.add_argument(
        "--memory",
        choices=("kept", "fresh"),
        default="kept",
        help="keep freed memory in the process, or get it from the system again each time",
    )
    parser.add_argument("--tables", type=Path, help="root folder of the tables to open")
    parser.add_argument("--version", default="v1.0-trainval", help="folder of the tables below it")


def released_preprocessing(paths: list[Path], config: ImageConfig) -> np.ndarray:
    """Return the model input (N, 3, H, W) float32 by the steps of the released code."""
    images = []
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(np.float32)
        picture = Image.fromarray(np.uint8(pixels))
        kept_rows = round(picture.height * config.keep_bottom)
        picture = picture.crop((0, picture.height - kept_rows, picture.width, picture.height))
        height, width = target_size((kept_rows, picture.width), config)
        picture = picture.resize((width, height))
        pixels = np.array(picture).astype(np.float32) - np.array(MEAN, dtype=np.float32)
        below, right = (-side % config.pad_to for side in (height, width))
        images.append(np.pad(pixels, ((0, below), (0, right), (0, 0))))
    stacked = np.stack([image.transpose(2, 0, 1) for image in images])
    return np.ascontiguousarray(stacked)


def own_preprocessing(
    paths: list[Path], config: ImageConfig, size: tuple[int, int]
) -> torch.Tensor:
    """Return the model input by the package, which decodes at a reduced size if that is enough."""
    reduction = decoding_reduction(size, config, AugmentationConfig())
    images = [read_image(path, size, reduction=reduction) for path in paths]
    frame = Frame(
        images=images,
        intrinsics=np.tile(np.diag([1200 / reduction, 1200 / reduction, 1.0]), (len(paths), 1, 1)),
        ego_from_cam=np.tile(np.eye(4), (len(paths), 1, 1)),
    )
    return preprocess(frame, config).images


def measure_images(paths: list[Path], wanted: tuple[int, int], seconds: float) -> dict[str, Any]:
    """Check that both forms agree, time them alternately, and return a row of results."""
    config = ImageConfig(size=wanted, mean=MEAN, std=(1.0, 1.0, 1.0))
    height, width = read_image(paths[0]).shape[:2]
    size = (height, width)
    ours = own_preprocessing(paths, config, size).numpy()
    theirs = released_preprocessing(paths, config)
    difference = float(np.sqrt(((ours - theirs) ** 2).mean()))
    if ours.shape != theirs.shape or difference > 2.0:
        raise RuntimeError(
            f"{wanted}: the two inputs must agree to 2 levels RMS; got a difference of {difference}"
        )
    runs = [
        lambda: own_preprocessing(paths, config, size),
        lambda: released_preprocessing(paths, config),
    ]
    own, released = time_runs(runs, seconds, wall=False)
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
    """Measure opening the tables, first without and then with the file of columns."""
    folder = root / version
    for path in folder.glob("*.json"):  # read all files into the page cache
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
    (folder / FILE_NAME).unlink(missing_ok=True)
    result: dict[str, Any] = {}
    for opening in ("first", "again"):
        command = [sys.executable, "-c", OPEN, str(root), version]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        result[opening] = json.loads(done.stdout)
    result["json_gb"] = round(sum(p.stat().st_size for p in folder.glob("*.json")) / 1e9, 2)
    result["columns_gb"] = round((folder / FILE_NAME).stat().st_size / 1e9, 2)
    return result


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all figures, print each when it is ready, and return them."""
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
        for opening in ("first", "again"):
            figures = result["tables"][opening]
            print(
                f"tables {opening}: {figures['wall_s']} s, {figures['cpu_s']} s of CPU, "
                f"{figures['peak_gb']} GB"
            )
    return result
