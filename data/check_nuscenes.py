"""Says whether a data set in nuScenes' format is ready: its tables, scenes, boxes and images.

Example: `python data/check_nuscenes.py data/nuscenes v1.0-mini`.

Prints one line a scene and ends with exit code 1 where an image is missing, 2 where a table is.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from bevstack.tables.reader import Tables


@dataclass(frozen=True)
class SceneState:
    """What is there of one scene."""

    name: str
    samples: int
    boxes: int
    missing: tuple[str, ...]  # camera images of its key frames, below the root


def inspect_scene(tables: Tables, row: int) -> SceneState:
    """Counts a scene's samples and boxes, and looks for its images."""
    samples = tables.samples_of_scene(row)
    keyframes = [keyframe for sample in samples for keyframe in tables.keyframes_of(sample)]
    is_camera = tables.calibrated_sensors.is_camera[tables.keyframes.sensor]
    images = [str(tables.keyframes.filename[k]) for k in keyframes if is_camera[k]]
    return SceneState(
        name=str(tables.scenes.name[row]),
        samples=len(samples),
        boxes=sum(len(tables.annotations_of(sample)) for sample in samples),
        missing=tuple(image for image in images if not (tables.root / image).is_file()),
    )


def main(argv: list[str] | None = None) -> int:
    """Prints the state of every scene."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="the folder that holds samples/ and the tables")
    parser.add_argument("version", help="folder of the tables, e.g. v1.0-mini")
    args = parser.parse_args(argv)
    try:
        tables = Tables(args.root, args.version)
        states = [inspect_scene(tables, row) for row in range(len(tables.scenes.name))]
    except (ValueError, OSError) as error:
        print(f"check_nuscenes: error: {error}", file=sys.stderr)
        return 2
    for state in states:
        images = f"{len(state.missing)} missing" if state.missing else "all there"
        print(f"{state.name}: {state.samples} samples, {state.boxes} boxes, images {images}")
        if state.missing:
            print(f"  the first: {state.missing[0]}")
    return 1 if any(state.missing for state in states) else 0


if __name__ == "__main__":
    sys.exit(main())
