"""Reading and driving of the viewer's page."""

from __future__ import annotations

import base64
import colorsys
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from bevstack.render.colors import CLASS_COLORS
from bevstack.viewer.moment import Moment
from bevstack.viewer.view_state import ViewState
from bevstack.vocabulary import DETECTION_CLASSES
from tests.viewer.browser.chromium import TIMEOUT_MS

FULL = frozenset(range(len(DETECTION_CLASSES)))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + TIMEOUT_MS / 1000
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def set_value(page: Any, label: str, value: str) -> None:
    """Type a value into the number beside a slider."""
    field = page.locator(
        f"xpath=//label[normalize-space()='{label}']/ancestor::div[.//input][1]//input"
    ).last
    field.fill(value)
    field.press("Enter")


def pictures_of(page: Any) -> list[bytes]:
    """Return the bytes of the pictures in the strip."""
    sources = page.locator("#camera-strip img").evaluate_all("all => all.map(i => i.src)")
    return [base64.b64decode(source.partition(",")[2]) for source in sources]


def pixels_of_class(page: Any, name: str) -> int:
    """Count the saturated pixels of the page's scene that have a class's hue."""
    picture = Image.open(io.BytesIO(page.screenshot(timeout=TIMEOUT_MS))).convert("HSV")
    scene = np.asarray(picture)[:270, :700].astype(int)  # beside the panel, above the strip
    hue = round(255 * colorsys.rgb_to_hsv(*(c / 255 for c in CLASS_COLORS[name]))[0])
    near = np.abs((scene[..., 0] - hue + 128) % 256 - 128) <= 8
    return int((near & (scene[..., 1] > 110) & (scene[..., 2] > 70)).sum())


def shown_boxes(moment: Moment, state: ViewState) -> np.ndarray:
    rows = moment.shown(0, state.min_score, state.labels)
    return moment.predicted[0].boxes.center_m[rows]


def painted_boxes(viewer: Any) -> np.ndarray:
    node = viewer.painter.node("solids/predicted_0")
    return np.zeros((0, 3)) if node is None else np.asarray(node.batched_positions)
