"""Benchmark of Mask R-CNN with InternImage-T against mmdetection's, with the released backbone.

    python -m benchmarks.run detection2d --source InternImage/detection --json FILE

Needs mmdet 3 with mmcv or mmcv-lite in the same environment, and the folder `detection` of a
checkout of OpenGVLab/InternImage; both stay outside this project. The peer is mmdetection's
detector with the released backbone and its operator in torch, ``DCNv3_pytorch``. RoIAlign and
suppression are compiled parts of mmcv: our RoIAlign and our suppression take their place on both
sides, so that the benchmark measures the models around them. Both have the same weights and
picture, and the benchmark stops if their detections differ. A run ends with masks at the size of
the picture. The sides run alternately in one process; peaks of memory are those of a process each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.mmdet_peer import build_peer, peer_modules, peer_version, picture_sample
from benchmarks.timing import load, machine
from bevstack.config.detection2d import Detection2DConfig
from bevstack.config.picture_detectors import load_picture_detector
from bevstack.datasets.detection2d.prepare import prepare_picture, stack_pictures
from bevstack.interop.detection2d import convert_detector2d
from bevstack.interop.published_files import PublishedFile
from bevstack.models.detection2d.build import build_picture_model
from bevstack.models.detection2d.masks import paste_masks
from bevstack.models.detection2d.model import RegionDetector
from bevstack.types.pictures2d import PictureBatch

SUMMARY = "Mask R-CNN with InternImage-T against mmdetection's"
CONFIG = "mask_rcnn_internimage_t_1x"
# Scores and pixels: float32 sums in another order through 30 blocks
SCORE_TOLERANCE, PIXEL_TOLERANCE = 1e-3, 0.5

Result = tuple[Tensor, Tensor, Tensor, Tensor]  # boxes, scores, labels, masks (D, H, W)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: source of the released backbone, size, threads and runs."""
    parser.add_argument(
        "--source",
        type=Path,
        required=True,
        help="folder `detection` of a checkout of OpenGVLab/InternImage",
    )
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each side (default 3)")


def build_ours(config: Detection2DConfig, peer: nn.Module) -> RegionDetector:
    """Return our detector with the weights of mmdetection's."""
    file = PublishedFile("the peer", dict(peer.state_dict()), {})
    model = build_picture_model(config)
    model.load_state_dict(convert_detector2d(file, config).weights)
    assert isinstance(model, RegionDetector)
    return model.eval()


def make_sides(config: Detection2DConfig, size: tuple[int, int]) -> dict[str, Callable[[], Result]]:
    """Return both detectors as functions of the same picture."""
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    picture = np.repeat(np.repeat(picture[::16, ::16], 16, 0), 16, 1)[: size[0], : size[1]]
    image, sizes = prepare_picture(picture, config.pictures)
    batch = stack_pictures([image], [sizes], ["picture"])
    peer = build_peer(config)
    ours = build_ours(config, peer)
    sample = picture_sample(sizes, (batch.images.shape[-2], batch.images.shape[-1]))

    def run_peer() -> Result:
        with torch.inference_mode():
            (found,) = peer.predict(batch.images, [sample.clone()], rescale=True)  # type: ignore
        made = found.pred_instances
        return made.bboxes, made.scores, made.labels, made.masks

    return {"mmdetection": run_peer, "ours": lambda: _run_ours(ours, batch)}


def _run_ours(model: RegionDetector, batch: PictureBatch) -> Result:
    with torch.inference_mode():
        (found,) = model.detect(batch)
        assert found.mask_values is not None
        masks = paste_masks(
            found.mask_values,
            found.boxes,
            batch.sizes[0].original,
            threshold=model.config.roi.mask_threshold,
        )
    return found.boxes, found.scores, found.labels, masks


def compare(ours: Result, peer: Result) -> dict[str, Any]:
    """Return the largest differences of detections in their order.

    Raises:
        RuntimeError: They are not the same objects.
    """
    same = len(ours[0]) == len(peer[0]) > 0 and torch.equal(ours[2], peer[2])
    scores = float((ours[1] - peer[1]).abs().max()) if same else float("nan")
    pixels = float((ours[0] - peer[0]).abs().max()) if same else float("nan")
    if not (same and scores <= SCORE_TOLERANCE and pixels <= PIXEL_TOLERANCE):
        raise RuntimeError(
            f"detections must be equal; got {len(ours[0])} and {len(peer[0])}, scores {scores:.2g} "
            f"and boxes {pixels:.2g} px apart"
        )
    other = float((ours[3] != peer[3]).float().mean())
    return {
        "detections": len(ours[0]),
        "score_difference": float(f"{scores:.2g}"),
        "box_difference_px": float(f"{pixels:.2g}"),
        "pixels_of_masks_that_differ": float(f"{other:.2g}"),
    }


def peak_memory(source: Path, side: str, size: tuple[int, int], threads: int) -> int:
    """Return the bytes by which a run of one side raises the peak of its own process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_in_process, (source, side, size, threads))


def _peak_in_process(source: Path, side: str, size: tuple[int, int], threads: int) -> int:
    torch.set_num_threads(threads)
    config = load_picture_detector(CONFIG)
    assert isinstance(config, Detection2DConfig)
    with peer_modules(source):
        call = make_sides(config, size)[side]
        make_small = make_sides(config, (64, 96))[side]
        make_small()  # imports and threads
        reset_peak()
        before = peak_bytes()
        call()
        return peak_bytes() - before


def reset_peak() -> None:
    """Let the peak of this process's memory be its present size (Linux, proc(5))."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """Return the peak of this process's memory."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare and time both sides, print the figures and return them."""
    torch.set_num_threads(arguments.threads)
    wall = arguments.threads > 1
    clock = time.perf_counter if wall else time.process_time
    size = (arguments.size[0], arguments.size[1])
    config = load_picture_detector(CONFIG)
    assert isinstance(config, Detection2DConfig)
    with peer_modules(arguments.source):
        sides = make_sides(config, size)
        results = {side: call() for side, call in sides.items()}
        differences = compare(results["ours"], results["mmdetection"])
        print(f"same detections: {differences}", flush=True)
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(arguments.runs):
            for side, call in sides.items():
                start = clock()
                call()
                seconds[side].append(clock() - start)
                print(f"{side}: {seconds[side][-1]:.2f} s", flush=True)
    median = {side: float(np.median(times)) for side, times in seconds.items()}
    memory = {s: peak_memory(arguments.source, s, size, arguments.threads) for s in sides}
    speedup = median["mmdetection"] / median["ours"]
    print(f"speedup {speedup:.2f}, peak bytes {memory}")
    return {
        **machine(),
        **load(),
        "threads": arguments.threads,
        "clock": "wall" if wall else "process CPU time",
        "config": CONFIG,
        "size": list(size),
        "mmdet": peer_version(),
        **differences,
        "seconds": {side: round(value, 3) for side, value in median.items()},
        "runs_s": {side: [round(t, 3) for t in times] for side, times in seconds.items()},
        "speedup": round(speedup, 2),
        "peak_bytes": memory,
    }
