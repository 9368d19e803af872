r"""Finds boxes in nuScenes scenes, or in your own images.

  bevstack predict --config C --weights W --nuscenes ROOT --version v1.0-mini --scene scene-0103 \
      --out results.json
  bevstack predict --weights W --rig rig.json --images DIR --out results.json

--weights alone suffices: the file holds its configuration. --config alone predicts with random
weights, which shows that everything runs. Under `torchrun` the scenes of a split are shared among
the processes, and a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``bevstack predict``."""
    model = parser.add_argument_group("model")
    model.add_argument("--config", help="name of a packaged configuration, or a file")
    model.add_argument("--weights", type=Path, metavar="FILE", help="safetensors file")
    model.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    nuscenes = parser.add_argument_group("images of a data set in nuScenes' format")
    nuscenes.add_argument("--nuscenes", type=Path, metavar="ROOT", help="folder of the data set")
    nuscenes.add_argument("--version", help="folder of its tables, e.g. v1.0-mini")
    scenes = nuscenes.add_mutually_exclusive_group()
    scenes.add_argument("--scene", help="one scene, e.g. scene-0103")
    scenes.add_argument("--split", help="all scenes of a split, e.g. mini_val")
    nuscenes.add_argument(
        "--skip-missing",
        action="store_true",
        help="leave out samples whose images are missing, naming each",
    )
    own = parser.add_argument_group("your own images")
    own.add_argument("--rig", type=Path, metavar="FILE", help="the cameras' calibration, as JSON")
    own.add_argument("--images", type=Path, metavar="DIR", help="folder of the cameras' images")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="results file, as JSON"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the prediction."""
    raise NotImplementedError
