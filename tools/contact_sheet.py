"""Contact sheet of synthetic scenes: one moment of each, for inspection by eye.

Example:
    python tools/contact_sheet.py out/sheet.png --scenes 20 --cameras CAM_FRONT CAM_BACK
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from bevstack.render.canvas import Canvas, fit_text
from bevstack.render.colors import BLACK, WHITE
from bevstack.synthetic.recording.camera import freeze, take_picture
from bevstack.synthetic.recording.recording import SensorDraws
from bevstack.synthetic.scene import build_scene
from bevstack.synthetic.spec import WorldSpec
from bevstack.vocabulary import CAMERA_CHANNELS

CAP_PX = 8.0  # height of capitals
_FRONT_CAMERAS = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT")


def draw_scene(spec: WorldSpec, name: str, time_s: float, channels: list[str]) -> np.ndarray:
    """Return the pictures of the named cameras side by side, BGR, with the scene's name."""
    scene = build_scene(spec, name)
    draws = SensorDraws(spec, scene)
    tiles = []
    for channel in channels:
        index = CAMERA_CHANNELS.index(channel)
        camera = scene.rig.cameras[index]
        moment = freeze(scene, time_s + camera.time_offset_us * 1e-6)
        tiles.append(take_picture(scene, moment, camera, draws.sensor(index)).image)
    row = Canvas(np.concatenate(tiles, axis=1))
    text = fit_text(f"{name} {scene.description}", CAP_PX, row.bounds.width)
    if text:
        row.text(text, 0, 0, CAP_PX, WHITE, plate=BLACK, plate_opacity=0.65)
    return row.pixels


def main(arguments: list[str] | None = None) -> int:
    """Draw the sheet and print the path of the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="PNG or JPEG to write")
    parser.add_argument("--scenes", type=int, default=20, help="number of scenes (default 20)")
    parser.add_argument("--columns", type=int, default=1, help="scenes side by side (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world (default 0)")
    parser.add_argument("--first", type=int, default=0, help="index of the first scene (default 0)")
    parser.add_argument(
        "--time", type=float, default=2.0, help="seconds after the first sample (default 2)"
    )
    parser.add_argument("--cameras", nargs="+", choices=CAMERA_CHANNELS, default=_FRONT_CAMERAS)
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        default=(225, 400),
        help="size of a picture in pixels (default 225 400)",
    )
    parser.add_argument(
        "--supersampling", type=int, default=1, help="rays per pixel and axis (default 1)"
    )
    args = parser.parse_args(arguments)
    spec = WorldSpec(
        seed=args.seed,
        train_scenes=args.first + args.scenes,
        samples_per_scene=11,
        image_size=tuple(args.size),
        supersampling=args.supersampling,
    )
    names = spec.split_scenes["train"][args.first :]
    scenes = [draw_scene(spec, name, args.time, list(args.cameras)) for name in names]
    scenes += [np.zeros_like(scenes[0])] * (-len(scenes) % args.columns)
    rows = [
        np.concatenate(scenes[i : i + args.columns], axis=1)
        for i in range(0, len(scenes), args.columns)
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(args.out), np.concatenate(rows)):
        raise OSError(f"the sheet must be writable; got {args.out}")
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
