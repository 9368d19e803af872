"""Reading and driving of the viewer's page."""

from __future__ import annotations

import base64
import colorsys
import io
import re
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
    """Put a value into the number beside a slider."""
    field = _number_of(page, label)
    field.fill(value)


def value_of(page: Any, label: str) -> str:
    """Return the number beside a slider."""
    value: str = _number_of(page, label).input_value()
    return value


def _number_of(page: Any, label: str) -> Any:
    return page.locator(
        f"xpath=//label[normalize-space()='{label}']/ancestor::div[.//input][1]//input"
    ).last


def pictures_of(page: Any) -> list[bytes]:
    """Return the bytes of the pictures in the strip."""
    sources = page.locator("#camera-strip img").evaluate_all("all => all.map(i => i.src)")
    return [base64.b64decode(source.partition(",")[2]) for source in sources]


def pixels_of_class(page: Any, name: str) -> int:
    """Count the pixels of the page's scene that have a class's colour."""
    picture = Image.open(io.BytesIO(page.screenshot(timeout=TIMEOUT_MS)))
    return count_of_class(picture.crop((0, 0, 700, 270)), name)  # beside panel and strip


def count_of_class(picture: Image.Image, name: str) -> int:
    """Count the saturated pixels that have a class's hue."""
    scene = np.asarray(picture.convert("HSV")).astype(int)
    hue = round(255 * colorsys.rgb_to_hsv(*(c / 255 for c in CLASS_COLORS[name]))[0])
    near = np.abs((scene[..., 0] - hue + 128) % 256 - 128) <= 8
    return int((near & (scene[..., 1] > 110) & (scene[..., 2] > 70)).sum())


def shown_boxes(moment: Moment, state: ViewState) -> np.ndarray:
    rows = moment.shown(0, state.min_score, state.labels)
    return moment.predicted[0].boxes.center_m[rows]


def painted_boxes(viewer: Any) -> np.ndarray:
    node = viewer.painter.node("solids/predicted_0")
    return np.zeros((0, 3)) if node is None else np.asarray(node.batched_positions)


def press(page: Any, name: str) -> None:
    """Press a button of the panel."""
    page.get_by_role("button", name=name, exact=True).click()


def client_of(viewer: Any) -> Any:
    """Return the viewer's side of the browser that connected first."""
    return min(viewer.server.get_clients().items())[1]


def pixels(client: Any, points_m: np.ndarray) -> np.ndarray:  # (P, 3) in the scene -> (P, 2)
    """Return where points are in a browser's canvas, by the pinhole of its camera."""
    camera = client.camera
    forward = np.asarray(camera.look_at) - camera.position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    axes = np.stack((right, np.cross(forward, right), forward))
    x, y, depth = ((points_m - camera.position) @ axes.T).T
    focal = camera.image_height / 2 / np.tan(camera.fov / 2)
    middle = np.array((camera.image_width, camera.image_height)) / 2
    return middle + focal * np.stack((x, y), -1) / depth[:, None]


def click_at(page: Any, place_px: np.ndarray) -> None:
    """Click a place of the scene."""
    canvas = page.locator("canvas").first.bounding_box()
    page.mouse.click(canvas["x"] + place_px[0], canvas["y"] + place_px[1])


def details(page: Any) -> dict[str, str]:
    """Return the facts about the picked box."""
    rows = page.locator("#details tr").all_inner_texts()
    facts = dict(re.split(r"\s*\t\s*", row.strip(), maxsplit=1) for row in rows)
    return {"class": page.locator("#details b").inner_text(), **facts}
