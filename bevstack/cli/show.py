"""Draws the boxes of a results file on the camera images, beside a view from above.

True boxes are drawn too where the data set has them.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack show``."""
    parser.add_argument("results", type=Path, help="results file, as `bevstack predict` writes it")
    nuscenes = parser.add_argument_group("images of a data set in nuScenes' format")
    nuscenes.add_argument("--nuscenes", type=Path, metavar="ROOT", help="folder of the data set")
    nuscenes.add_argument("--version", help="folder of its tables, e.g. v1.0-mini")
    nuscenes.add_argument("--scene", help="draw only this scene, e.g. scene-0103")
    own = parser.add_argument_group("your own images")
    own.add_argument("--rig", type=Path, metavar="FILE", help="the cameras' calibration, as JSON")
    own.add_argument("--images", type=Path, metavar="DIR", help="folder of the cameras' images")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the pictures"
    )


def run(args: argparse.Namespace) -> int:
    """Draws the pictures."""
    raise NotImplementedError
