"""Picture of the viewer's page in headless Chromium, as people see it.

Example:
    python tools/picture_page.py page.png view --nuscenes nuscenes --version v1.0-mini --frame 2

It needs the extra view, playwright and Debian's package chromium. Nothing is loaded from a network.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

# The processor draws the scene; of the page around it, it is faster without WebGL.
FLAGS = (
    *("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    "--disable-gpu-rasterization",
)
TIMEOUT_MS = 180_000
SETTLED_MS = 10_000  # in which pictures and shaders are loaded on a processor without a GPU


def take_picture(address: str, out: Path, size_px: tuple[int, int]) -> None:
    """Save the page of a viewer as PNG.

    Raises:
        FileNotFoundError: Chromium is not installed.
    """
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("chromium must be installed; got none: apt-get install chromium")
    width, height = size_px
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(TIMEOUT_MS)
        page.goto(address)
        page.wait_for_selector("#camera-strip img", state="attached")
        page.wait_for_timeout(SETTLED_MS)
        page.screenshot(path=out, timeout=TIMEOUT_MS)
        browser.close()


def main(arguments: list[str] | None = None) -> int:
    """Start the viewer, take the picture, and stop the viewer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="picture to write, a PNG")
    parser.add_argument(
        *("--size", "-s"), type=int, nargs=2, default=(1000, 640), help="pixels of the page"
    )
    parser.add_argument("verb", choices=("view",), help="the verb, whose options follow")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of `bevstack view`")
    args = parser.parse_args(arguments)
    command = [sys.executable, "-m", "bevstack", "view", *args.options, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            return process.wait()  # the viewer has printed the reason
        take_picture(address, args.out, tuple(args.size))
    finally:
        process.terminate()
        process.wait()
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
