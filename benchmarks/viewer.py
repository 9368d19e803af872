"""Benchmark of the browser viewer: moments at the socket, opening of a scene, and 1,000 boxes.

    bevstack make-world --out drive --train-scenes 0 --val-scenes 1 --samples-per-scene 40 \
        --image-size 450 800
    bevstack predict --weights tiny_cpu_t4 --nuscenes drive --version v1.0-synth \
        --split synth_val --out drive.json
    python -m benchmarks.run viewer --nuscenes drive --version v1.0-synth --results drive.json

Every time is a wall time; the CPU time beside it does not depend on what else the machine does.

"moments": a client in a process of its own takes what the viewer sends while all frames are shown,
each as soon as the one before it is; counted are the camera strips that arrive, all pictures in
them. Cold: nothing of the data set was read before in this process; warm: the viewer still has the
moments in memory.
"opening": the time from the start of `bevstack view` to its address, and to the first strip at a
client. Cold: the first start; warm: the median of those that follow.
"boxes": 1,000 boxes without pictures in Chromium, which draws on the processor (SwiftShader), while
the view is turned: the time from drawn frame to drawn frame; cold: the first turn, in which shaders
are compiled. A third of the boxes move. It needs Chromium and playwright; without them the part is
left out.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.processes import cpu_s
from benchmarks.timing import load, machine
from benchmarks.viewer_browser import browser_version, measure_boxes

SUMMARY = "moments a second at the viewer's socket, opening of a scene, and 1,000 boxes"
GOAL = {"moments_per_s": 20.0, "opening_s": 3.0, "frame_ms": 50.0}
_WAIT_S = 60.0  # for a frame to be shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: the data set, the results, and the number of runs."""
    parser.add_argument("--nuscenes", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--version", required=True, help="folder of its tables")
    parser.add_argument("--results", type=Path, required=True, help="results of `bevstack predict`")
    parser.add_argument("--runs", type=int, default=5, help="runs of each figure (default: 5)")
    parser.add_argument("--boxes", type=int, default=1000, help="boxes in a frame (default: 1000)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the parts, and return and print the figures."""
    import viser

    opening = measure_opening(arguments)
    print(_line("opening, to the address", "s", opening["address_s"]))
    print(_line("opening, to the first strip", "s", opening["strip_s"]))
    print(_line("  its CPU time", "s", opening["cpu_s"]))
    moments = measure_moments(arguments)
    print(_line(f"moments at the socket, {moments['kilobytes']:.0f} kB", "1/s", moments["per_s"]))
    print(_line("  CPU time of a moment", "ms", moments["cpu_ms"]))
    boxes = measure_boxes(arguments.boxes)
    if boxes is None:
        print("boxes: left out, since Chromium or playwright is not installed")
    else:
        print(_line(f"{arguments.boxes} boxes, from frame to frame", "ms", boxes["frame_ms"]))
        print(_line("  the browser's CPU time of a frame", "ms", boxes["cpu_ms"]))
    return {
        "command": "python -m benchmarks.run viewer --nuscenes drive --version v1.0-synth "
        "--results drive.json",
        "machine": {
            **machine(),
            "threads": torch.get_num_threads(),
            "viser": viser.__version__,
            "chromium": browser_version(),
        },
        "load": load(),
        "goal": GOAL,
        "opening": opening,
        "moments": moments,
        "boxes": boxes,
    }


def measure_opening(arguments: argparse.Namespace) -> dict[str, Any]:
    """Start the verb several times; return the times to its address and to the first strip."""
    from benchmarks.viewer_client import StripClient

    words = ["view", "--nuscenes", str(arguments.nuscenes), "--version", arguments.version]
    words += ["--results", str(arguments.results), "--port", "0"]
    address_s, strip_s, used_s = [], [], []
    for _ in range(arguments.runs + 1):
        client = StripClient()
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "bevstack", *words], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            address_s.append(time.perf_counter() - start)
            if not address:
                raise ValueError(f"bevstack view must print its address; got code {process.wait()}")
            client.connect(address)
            strip_s.append(time.perf_counter() - start)
            used_s.append(cpu_s(process.pid))
        finally:
            client.stop()
            process.terminate()
            process.wait()
    frames = RecordedScene(arguments).count
    return {
        "frames": frames,
        "address_s": _figures(address_s),
        "strip_s": _figures(strip_s),
        "cpu_s": _figures(used_s),
    }


class RecordedScene:
    """Scene of the data set, read by the viewer's own source."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from bevstack.viewer.recorded import RecordedDrives, RecordedSource

        self.drives = RecordedDrives(
            RecordedSource(
                root=arguments.nuscenes, version=arguments.version, results=(arguments.results,)
            )
        )
        self.name = self.drives.scenes[0]
        self.count = self.drives.count(self.name)


def measure_moments(arguments: argparse.Namespace) -> dict[str, Any]:
    """Show all frames of a scene again and again; return the rates at which a client gets them."""
    from benchmarks.viewer_client import StripClient

    rates: dict[str, list[float]] = {"cold": [], "warm": []}
    costs: dict[str, list[float]] = {"cold": [], "warm": []}
    sizes = []
    for _ in range(arguments.runs):
        scene = RecordedScene(arguments)
        viewer = _viewer(scene)
        with StripClient() as client:
            client.connect(viewer.address)
            for kind in ("cold", "warm"):
                seen, taken = client.count, client.num_bytes
                start, used_s = time.perf_counter(), time.process_time()
                for index in range(1, scene.count):
                    _show(viewer, index)
                costs[kind].append(1e3 * (time.process_time() - used_s) / (scene.count - 1))
                # A strip that a newer one has replaced does not count.
                client.settle()
                arrived = client.count - seen
                rates[kind].append(arrived / (client.last_s - start))
                sizes.append((client.num_bytes - taken) / max(arrived, 1))
                _show(viewer, 0)
                client.settle()
        viewer.stop()
    moment = scene.drives.moment(scene.name, 0)
    return {
        "frames": scene.count,
        "pictures": [camera.size_px for camera in moment.cameras],
        "kilobytes": statistics.median(sizes) / 1e3,
        "per_s": {kind: statistics.median(found) for kind, found in rates.items()},
        "cpu_ms": {kind: statistics.median(found) for kind, found in costs.items()},
        "per_s_range": {kind: [min(found), max(found)] for kind, found in rates.items()},
    }


def _viewer(scene: RecordedScene) -> Any:
    from bevstack.viewer.browser.clients import Clients
    from bevstack.viewer.browser.controls import Controls
    from bevstack.viewer.browser.viewer import Viewer
    from bevstack.viewer.view_state import ViewState

    viewer = Viewer(scene.drives, ViewState(scene=scene.name), port=0)
    Controls(viewer)
    Clients(viewer, lambda state, eye: "")
    viewer.start()
    return viewer


def _show(viewer: Any, index: int) -> None:
    from dataclasses import replace

    viewer.change(partial(replace, index=index))
    end = time.perf_counter() + _WAIT_S
    while viewer.shown[0].index != index:
        if time.perf_counter() > end:
            raise TimeoutError(f"frame {index} must be shown within {_WAIT_S:g} s; got none")
        time.sleep(0.001)


def _figures(seconds: list[float]) -> dict[str, float]:
    """Return the first run as cold, and the median of those that follow as warm."""
    return {"cold": seconds[0], "warm": statistics.median(seconds[1:])}


def _line(name: str, unit: str, figures: dict[str, float]) -> str:
    return f"{name:36}cold {figures['cold']:7.2f} {unit:4} warm {figures['warm']:7.2f} {unit}"
