"""Frame times of many boxes in headless Chromium, which draws on the processor (SwiftShader)."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
from typing import Any

import numpy as np

from benchmarks.processes import cpu_s, descendants

_SIZE = {"width": 960, "height": 540}
# The processor draws the scene through WebGL, and the page around it without.
_FLAGS = (
    *("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    "--disable-gpu-rasterization",
)
_TIMEOUT_MS = 180_000
# Counts the frames in which something was drawn, and keeps their times.
_COUNT_FRAMES = """
window.drawnAt = []; window.drawCalls = 0;
let drawn = false;
for (const name of ['drawElements', 'drawElementsInstanced', 'drawArrays', 'drawArraysInstanced']) {
  const draw = WebGL2RenderingContext.prototype[name];
  WebGL2RenderingContext.prototype[name] = function (...values) {
    drawn = true; window.drawCalls += 1;
    return draw.apply(this, values);
  };
}
const tick = (time) => {
  if (drawn) { window.drawnAt.push(time); drawn = false; }
  requestAnimationFrame(tick);
};
requestAnimationFrame(tick);
"""


def browser_version() -> str | None:
    """Return the version of Chromium; None if it is not installed."""
    path = shutil.which("chromium")
    if path is None:
        return None
    printed = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    return printed.stdout.strip()


def measure_boxes(count: int, turn_s: float = 6.0) -> dict[str, Any] | None:
    """Turn the view of boxes without pictures; return the times from frame to frame.

    Cold is the first turn, in which shaders are compiled; warm the second. Without Chromium or
    playwright, None is returned.
    """
    path = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return None
    if path is None:
        return None
    viewer = _viewer(count)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
            page = browser.new_page(viewport=_SIZE)
            page.add_init_script(_COUNT_FRAMES)
            page.goto(viewer.address)
            page.wait_for_selector("canvas", timeout=_TIMEOUT_MS)
            turns, used_ms = [], []
            for _ in range(3):
                before_s = _used_s()
                turns.append(_turn(page, turn_s))
                used_ms.append(1e3 * (_used_s() - before_s) / (len(turns[-1]) + 1))
            browser.close()
    finally:
        viewer.stop()
    cold, *warm = turns
    return {
        "boxes": count,
        "page_px": [_SIZE["width"], _SIZE["height"]],
        "frames": [len(turn) for turn in turns],
        "frame_ms": {
            "cold": statistics.median(cold),
            "warm": statistics.median(np.concatenate(warm).tolist()),
        },
        "cpu_ms": {"cold": used_ms[0], "warm": statistics.median(used_ms[1:])},
        "p95_ms": {
            "cold": float(np.percentile(cold, 95)),
            "warm": float(np.percentile(np.concatenate(warm), 95)),
        },
    }


def _used_s() -> float:
    """Return the CPU time of the browser's processes so far."""
    return sum(map(cpu_s, descendants(os.getpid())))


def _turn(page: Any, turn_s: float) -> np.ndarray[Any, Any]:
    """Turn the view in small steps; return the times between drawn frames in milliseconds."""
    page.evaluate("window.drawnAt.length = 0")
    middle = (300, 260)
    page.mouse.move(*middle)
    page.mouse.down()
    page.evaluate(
        """async ([x, y, seconds]) => {
          const canvas = document.querySelector('canvas');
          const end = performance.now() + 1000 * seconds;
          let step = 0;
          while (performance.now() < end) {
            await new Promise(requestAnimationFrame);
            step += 1;
            const place = {clientX: x + 2 * step % 200, clientY: y, pointerId: 1, button: 0,
                           buttons: 1, bubbles: true, pointerType: 'mouse'};
            canvas.dispatchEvent(new PointerEvent('pointermove', place));
          }
        }""",
        [*middle, turn_s],
    )
    page.mouse.up()
    times = np.array(page.evaluate("window.drawnAt"))
    if len(times) < 3:
        raise ValueError(f"a turn of the view must draw frames; got {len(times)}")
    return np.diff(times)


def _viewer(count: int) -> Any:
    from bevstack.viewer.browser.controls import Controls
    from bevstack.viewer.browser.viewer import Viewer
    from bevstack.viewer.growing import GrowingDrive
    from bevstack.viewer.view_state import ViewState

    drive = GrowingDrive()
    drive.add(many_boxes(count))
    viewer = Viewer(drive, ViewState(scene="boxes", min_score=0.0), port=0)
    Controls(viewer)
    viewer.start()
    return viewer


def many_boxes(count: int) -> Any:
    """Return a moment of boxes within 50 m, of which a third move, without pictures."""
    from bevstack.viewer.moment import BoxArrays, Moment, Predicted
    from bevstack.vocabulary import DETECTION_CLASSES

    rng = np.random.default_rng(0)
    places = rng.uniform(-50, 50, (count, 2))
    heading = rng.uniform(-np.pi, np.pi, count)
    speed = np.where(np.arange(count) % 3 == 0, 3.0, 0.0)[:, None]
    boxes = BoxArrays(
        center_m=np.column_stack((places, np.full(count, 0.75))),
        size_m=np.tile((4.0, 2.0, 1.5), (count, 1)),
        yaw_rad=heading,
        velocity_mps=speed * np.stack((np.cos(heading), np.sin(heading)), -1),
        label=np.arange(count) % len(DETECTION_CLASSES),
        identity=np.arange(count),
        counted=np.ones(count, np.bool_),
    )
    return Moment(
        scene="boxes",
        index=0,
        timestamp_us=0,
        class_names=DETECTION_CLASSES,
        predicted=(Predicted(name="boxes", boxes=boxes, score=np.full(count, 0.5)),),
    )
