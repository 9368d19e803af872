"""Time and score of exported detectors in each installed runtime beside ours, in one run.

    bevstack export --onnx tiny.onnx --weights tiny_cpu_t4 --stream
    bevstack export --onnx tiny_own.onnx --weights tiny_cpu_t4 --stream --custom-ops
    OMP_NUM_THREADS=1 python -m benchmarks.run exported --model tiny.onnx tiny_own.onnx

A file with our own operators runs in OpenVINO alone; its row is "openvino, own kernels". A
synthetic scene is streamed through all, frame by frame, on one thread each. The time is that of the
processor, from images in memory to boxes, preparation included; the first frame is left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bevstack.datasets.nuscenes import NuScenesDataset
from bevstack.evaluation.detection3d.metric_config import MetricConfig
from bevstack.evaluation.results.result_boxes import results_of_frame
from bevstack.evaluation.results.submission import write_submission
from bevstack.evaluation.scoring import load, score
from bevstack.export.onnx.graph_info import has_custom_ops
from bevstack.export.runtimes import OPENVINO, TORCH, installed_backends, open_session
from bevstack.runtime.exported import ExportedDetector
from bevstack.runtime.loading import load as load_weights
from bevstack.synthetic import WorldSpec, make_world

SUMMARY = "exported detectors in ONNX Runtime and OpenVINO, beside ours in torch"
SEED = 24  # of the demo's scene
SPLIT = "synth_test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: model, weights and frames."""
    parser.add_argument(
        "--model", type=Path, required=True, nargs="+", help="files of `bevstack export --onnx`"
    )
    parser.add_argument("--weights", default="tiny_cpu_t4", help="those of the model")
    parser.add_argument("--frames", type=int, default=30, help="frames of the scene")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Stream, score, print and return the figures."""
    torch.set_num_threads(1)
    ours = load_weights(arguments.weights, calibrated=False)
    sessions = {
        row_name(backend, custom): open_session(path, backend, threads=1)
        for path in arguments.model
        for custom in (has_custom_ops(path),)
        for backend in ([OPENVINO] if custom else installed_backends())
    }
    streams = {
        TORCH: ours.stream(),
        **{name: ExportedDetector(session).stream() for name, session in sessions.items()},
    }
    times: dict[str, list[float]] = {name: [] for name in streams}
    results: dict[str, dict[str, list[dict[str, object]]]] = {name: {} for name in streams}
    spec = WorldSpec(
        seed=SEED,
        train_scenes=0,
        val_scenes=0,
        test_scenes=1,
        samples_per_scene=arguments.frames,
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "world"
        make_world(root, spec)
        data = NuScenesDataset(
            root, spec.version, bev_frame=ours.config.grid.frame, class_names=ours.class_names
        )
        for index in range(len(data)):
            frame = data.frame(index, images_for=ours.config)
            for name, stream in streams.items():
                started = time.process_time()
                boxes = stream.step(frame)
                times[name].append(time.process_time() - started)
                results[name][frame.sample_token] = results_of_frame(boxes, frame, ours.class_names)
        nds = {}
        for name, found in results.items():
            path = Path(folder) / f"{name}.json"
            write_submission(path, found)
            nds[name] = score(load(path, data.tables, SPLIT), MetricConfig()).metrics.nds
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    result = {
        "backends": sorted({f"torch {torch.__version__}", *(s.backend for s in sessions.values())}),
        "weights": arguments.weights,
        "frames": arguments.frames,
        "seconds_a_frame": medians,
        "ratio": {name: medians[name] / medians[TORCH] for name in sessions},
        "nds": nds,
    }
    print(result)
    return result


def row_name(backend: str, custom_ops: bool) -> str:
    """Return the name of a file's row; a later file of the same kind replaces an earlier one."""
    return f"{backend}, own kernels" if custom_ops else backend
