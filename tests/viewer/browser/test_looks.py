"""The page in headless Chromium: what people must be able to read, and what nothing may cover."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bevstack.viewer.label_layout import anchors
from bevstack.viewer.pinhole import Pinhole
from bevstack.viewer.view_state import Eye
from tests.viewer.browser.chromium import Tab
from tests.viewer.browser.pages import client_of, wait_until

# Contrast by WCAG 2.2 of each text that is seen, against the grounds that lie under it.
TEXTS = """() => {
  const parse = (color) => {
    const [red, green, blue, opacity = 1] = color.match(/[\\d.]+/g).map(Number);
    return [red, green, blue, opacity];
  };
  const light = (color) => {
    const [r, g, b] = color.slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const over = (upper, lower) =>
    [0, 1, 2].map((i) => upper[3] * upper[i] + (1 - upper[3]) * lower[i]).concat(1);
  const ancestors = (element) => {
    const all = [];
    for (; element; element = element.parentElement) all.push(element);
    return all;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!text || ['STYLE', 'SCRIPT', 'NOSCRIPT'].includes(element.tagName)) continue;
    const box = element.getBoundingClientRect();
    if (!box.width || !element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}))
      continue;
    const above = ancestors(element);
    const ground = above.map((e) => parse(getComputedStyle(e).backgroundColor)).reverse()
      .reduce((lower, upper) => over(upper, lower), [20, 20, 20, 1]);
    const style = getComputedStyle(element);
    const ink = parse(style.color);
    ink[3] *= above.reduce((product, e) => product * getComputedStyle(e).opacity, 1);
    const [a, b] = [light(over(ink, ground)), light(ground)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([text, contrast, parseFloat(style.fontSize)]);
  }
  return found;
}"""


def test_every_text_has_twelve_pixels_and_a_contrast_of_four_and_a_half(tab: Tab) -> None:
    found = tab.page.evaluate(TEXTS)
    assert {"Scene", "Frame", "Cameras", "+10", "front left"} <= {text for text, _, _ in found}
    assert [text for text, contrast, _ in found if contrast < 4.5] == []
    assert [text for text, _, size_px in found if size_px < 12] == []


def test_nothing_covers_the_scene(tab: Tab) -> None:
    page = tab.page
    assert not page.locator("#webgl-software-rendering").is_visible()
    strip = page.locator("#camera-strip")

    def ends_above() -> bool:
        scene = page.locator("canvas[data-engine]").bounding_box()
        return bool(scene["y"] + scene["height"] < strip.bounding_box()["y"])

    wait_until(ends_above, "the strip lies over the scene")
    height = page.locator("canvas[data-engine]").bounding_box()["height"]
    assert height > 0.5 * page.viewport_size["height"]


def test_texts_in_the_scene_lie_over_no_other_text(viewer: Any, tab: Tab) -> None:
    layers = viewer.state.layers | {"traffic", "grid"}
    viewer.change(lambda state: replace(state, layers=layers))
    client = client_of(viewer)
    labels = viewer.clients.labels_of(client)
    wait_until(lambda: len(labels.shown) > 4, "no texts are shown")
    wait_until(lambda: viewer.shown[1] == viewer.state, "the layers are not shown")
    names = {text.name for text in viewer.drawing.texts}
    assert names and any(name in labels.shown for name in names)
    for first, second in itertools.combinations(labels.shown.values(), 2):
        across = first.left < second.right and second.left < first.right
        assert not (across and first.top < second.bottom and second.top < first.bottom)


def test_the_pinhole_of_the_texts_is_that_of_the_browser(viewer: Any, tab: Tab) -> None:
    client = client_of(viewer)
    camera = client.camera
    eye = Eye(position_m=tuple(camera.position), look_at_m=tuple(camera.look_at))
    pinhole = Pinhole(eye, (camera.image_width, camera.image_height), camera.fov)
    target = np.asarray(camera.look_at)[None]
    middle = (camera.image_width / 2, camera.image_height / 2)
    assert anchors(target, pinhole)[0] == pytest.approx(middle)
