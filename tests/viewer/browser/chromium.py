"""Headless Chromium for tests: every request to another host than loopback is refused and kept."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

# The software renderer that Chromium brings along; no GPU and no display is needed. It draws the
# scene alone: for the page around it, the processor is faster.
_FLAGS = (
    *("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    "--disable-gpu-rasterization",
)
# Smooth edges cost the software renderer most of its time, above all at the start (factor 6).
_NO_SMOOTH_EDGES = """
const getContext = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, attributes) {
  return getContext.call(this, kind, {...attributes, antialias: false});
};
"""
_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
SIZE = {"width": 1060, "height": 440}
TIMEOUT_MS = 180_000  # a machine that does much else draws a frame in seconds


@dataclass
class Tab:
    """One page of the browser, and the requests that it tried to send elsewhere."""

    page: Any
    foreign: list[str] = field(default_factory=list)


def chromium_path() -> str:
    """Return Chromium; skip the test without it, or fail if BEVSTACK_BROWSER is "require"."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    missing = None if path else "Chromium is not installed: apt-get install chromium"
    with contextlib.suppress(ModuleNotFoundError):
        import playwright  # noqa: F401

        if missing is None:
            assert path is not None
            return path
    missing = missing or "playwright is not installed: pip install 'bevstack[test]'"
    if os.environ.get("BEVSTACK_BROWSER") == "require":
        pytest.fail(missing)
    pytest.skip(missing)


class Chromium:
    """A running browser that opens pages, each in a context of its own."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser

    def new_page(self) -> Any:
        """Open an empty page."""
        context = self._browser.new_context(viewport=SIZE, accept_downloads=True)
        context.add_init_script(_NO_SMOOTH_EDGES)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        return page

    def open(self, address: str) -> Tab:
        """Open an address and wait for the camera strip."""
        page = self.new_page()
        tab = Tab(page)

        def route(found: Any) -> None:
            parts = urlsplit(found.request.url)
            if parts.scheme in ("data", "blob") or parts.hostname in _LOOPBACK:
                found.continue_()
            else:
                tab.foreign.append(found.request.url)
                found.abort()

        page.route("**/*", route)
        page.goto(address)
        page.wait_for_selector("#camera-strip img", state="attached")
        return tab


@contextlib.contextmanager
def chromium() -> Iterator[Chromium]:
    """Start the browser, and close it at the end."""
    path = chromium_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield Chromium(browser)
        browser.close()
