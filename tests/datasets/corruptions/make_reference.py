"""Make the reference of imagecorruptions 1.1.2, in an environment of its own.

    python -m venv other && other/bin/pip install imagecorruptions==1.1.2 "numpy<2" "setuptools<70"
    other/bin/python -m tests.datasets.corruptions.make_reference PICTURE

PICTURE is an image file of 400 x 225 pixels. It is halved, and its middle of 96 x 64 pixels is
kept. Random directions, fields and noise of the pictures are replaced by those of ``given``, so
that pictures can be compared exactly. The statistics are of the package's own random numbers, each
over ``DRAWS`` pictures.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.datasets.corruptions import given

SEVERITIES = {
    "brightness": (2, 4, 5),
    "motion_blur": (2, 4, 5),
    "fog": (2, 4, 5),
    "snow": (1, 2, 3),
}
FOLDER = Path(__file__).parent


def main(source: str) -> None:
    """Write ``reference.npz`` and ``reference.json`` beside this file."""
    image = Image.open(source).convert("RGB")
    picture = np.asarray(image.resize((image.width // 2, image.height // 2)))
    top, left = (picture.shape[0] - given.SIZE[0]) // 2, (picture.shape[1] - given.SIZE[1]) // 2
    picture = picture[top : top + given.SIZE[0], left : left + given.SIZE[1]]
    pictures = {"picture": picture}
    statistics: dict[str, list[Any]] = {}
    for name, severities in SEVERITIES.items():
        for severity in severities:
            with given_randomness():
                pictures[f"{name}_{severity}"] = corrupted(picture, name, severity)
            np.random.seed(severity)  # noqa: NPY002  the package draws from the global state
            drawn = [corrupted(picture, name, severity) for _ in range(given.DRAWS)]
            statistics[f"{name}_{severity}"] = moments([given.figures(p, picture) for p in drawn])
    np.savez_compressed(FOLDER / "reference.npz", **pictures)
    (FOLDER / "reference.json").write_text(json.dumps(statistics | spectra(), indent=1) + "\n")


def corrupted(picture: NDArray[np.uint8], name: str, severity: int) -> NDArray[np.uint8]:
    """Return a picture that the package corrupts."""
    import imagecorruptions

    changed: NDArray[np.uint8] = imagecorruptions.corrupt(picture, severity, name)
    return changed


def given_randomness() -> contextlib.ExitStack:
    """Replace the random parts of the package by those of ``given``."""
    from imagecorruptions import corruptions

    def angle(low: float, high: float) -> float:
        return given.ANGLE_DEG - 90 if high < 0 else given.ANGLE_DEG

    replaced = contextlib.ExitStack()
    replaced.enter_context(mock.patch("numpy.random.uniform", angle))
    parts = {
        "plasma_fractal": lambda mapsize, wibbledecay: given.given_field(),
        "clipped_zoom": lambda image, factor: given.given_noise()[..., None],
    }
    replaced.enter_context(mock.patch.multiple(corruptions, **parts))
    return replaced


def spectra() -> dict[str, list[Any]]:
    """Return the differences of plasma fields at all lags, by decay."""
    from imagecorruptions.corruptions import plasma_fractal

    found = {}
    for decay in given.DECAYS:
        np.random.seed(0)  # noqa: NPY002  see above
        fields = [plasma_fractal(given.SPECTRUM_SIDE, decay) for _ in range(given.DRAWS)]
        found[f"field_{decay:g}"] = moments([given.differences(field) for field in fields])
    return found


def moments(rows: list[Any]) -> list[list[float]]:
    """Return mean and standard deviation of each column."""
    table = np.array(rows)
    return [table.mean(axis=0).round(5).tolist(), table.std(axis=0, ddof=1).round(5).tolist()]


if __name__ == "__main__":
    main(sys.argv[1])
