r"""Export results to a format that planners read, or a model to a file that other runtimes run.

  bevstack export --format nuscenes --results results.json --nuscenes ROOT --version v1.0-mini \
      --track --out tracks.json
  bevstack export --format autoware --results results.json --nuscenes ROOT --version v1.0-mini \
      --scene scene-0103 --track --cues cues.json --out drive.mcap
  bevstack export --onnx model.onnx --weights tiny_cpu_t4 --stream

The results are those of `bevstack predict`. With --track, detections are tracked first: objects
get identities, covariances and predicted paths. All formats but nuscenes hold one scene.
docs/export.md lists what each format holds, and where the rest stands.

A model is compared with ours before it gets its name: docs/deploy.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.export_model import add_model_arguments, run_model, wants_model
from bevstack.cli.options import add_allow_outside

if TYPE_CHECKING:
    from bevstack.export.planning.scene import PlanningFrame
    from bevstack.uncertainty import BoxCalibration

FORMATS = ("nuscenes", "autoware", "openlabel", "osi", "apollo", "vision_msgs")
ROS_FORMATS = ("autoware", "vision_msgs")
# Names of bevstack.export.messages.store, which a test compares: they stand here so that the
# parser imports neither numpy nor torch.
DISTROS = ("noetic", "humble", "iron", "jazzy", "kilted")
AUTOWARE_VERSIONS = ("1.1", "1.8", "newest")
LIGHT_IDS = ("map", "hash")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack export``."""
    parser.add_argument("--format", choices=FORMATS, help="format of results to write")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="results file of `bevstack predict`: boxes, or tracks with identities",
    )
    parser.add_argument(
        "--cues", type=Path, metavar="FILE", help="cues.json of `bevstack predict`: lights, signs"
    )
    parser.add_argument("--nuscenes", type=Path, metavar="ROOT", help="folder of the data set")
    parser.add_argument("--version", help="folder of the tables, e.g. v1.0-mini")
    parser.add_argument(
        "--scene", metavar="NAME", help="export only this scene; required if there are several"
    )
    parser.add_argument(
        "--track", action="store_true", help="track the boxes first, for identities and paths"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights of the model to export; or those that made the results: their calibration "
        "gives the boxes' uncertainty and the trust in sectors",
    )
    ros = parser.add_argument_group("bags (autoware, vision_msgs)")
    ros.add_argument("--distro", choices=DISTROS, help="distribution of ROS (default: humble)")
    ros.add_argument(
        "--autoware-version",
        choices=AUTOWARE_VERSIONS,
        help="of autoware_perception_msgs: 1.1, 1.8 (lights with predictions) or newest (more "
        "labels) (default: 1.8)",
    )
    ros.add_argument(
        "--light-ids",
        choices=LIGHT_IDS,
        help="ids of Autoware's lights: map leaves out lights without an id of a map, hash gives "
        "them a hash of their track (default: map)",
    )
    ros.add_argument(
        "--hazards",
        action="store_true",
        help="label cones, barriers and standing construction vehicles HAZARD; needs newest",
    )
    osi = parser.add_argument_group("OSI")
    osi.add_argument(
        "--rear-axle-height",
        type=float,
        metavar="M",
        help="height of the rear axle above ground, the origin of OSI's frame (default: 0.33)",
    )
    add_allow_outside(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file of results to write; apollo: a folder"
    )
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write the results or the model and print its path.

    Raises:
        FileNotFoundError: the results, the cues or the data set do not exist.
        ModuleNotFoundError: an extra of the format is not installed.
        ValueError: options that do not fit, a malformed file, several scenes for one drive, or
            weights without a calibration.
        OSError: the file cannot be written.
    """
    if wants_model(args):
        return run_model(args)
    _check(args)
    from bevstack.config.tracking import TrackingConfig
    from bevstack.export.planning.results import read_planning_frames
    from bevstack.runtime.shipped import weights_path
    from bevstack.tables.reader import Tables
    from bevstack.uncertainty.sectors import read_sector_model

    tables = Tables(args.nuscenes, args.version, allow_outside=args.allow_outside)
    frames = read_planning_frames(
        args.results,
        tables,
        scenes=None if args.scene is None else [args.scene],
        cues=args.cues,
        tracking=TrackingConfig() if args.track else None,
        calibration=None if args.weights is None else _read_calibration(args.weights),
        sectors=None if args.weights is None else read_sector_model(weights_path(args.weights)),
    )
    names = sorted({frame.drive for frame in frames})
    if args.format != "nuscenes" and len(names) > 1:
        raise ValueError(
            f"--scene must be given for --format {args.format}, which holds one scene; got results "
            f"of {len(names)}: {', '.join(names[:8])}"
        )
    _write(args, frames)
    count = sum(len(frame.objects) for frame in frames)
    kind = "detections" if frames[0].objects.identity is None else "tracked boxes"
    print(f"{count} {kind} in {len(frames)} frames: {args.out}")
    return 0


def _read_calibration(weights: Path) -> BoxCalibration:
    from bevstack.calibration_file import calibration_path
    from bevstack.runtime.shipped import weights_path
    from bevstack.uncertainty.calibration import read_box_calibration
    from bevstack.vocabulary import DETECTION_CLASSES

    path = weights_path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}: check the path")
    found = read_box_calibration(path, DETECTION_CLASSES)
    if found is None:
        raise ValueError(
            f"--weights must have a calibration of boxes; got none in {calibration_path(path)}: "
            "fit it with tools/calibrate_boxes.py, or leave out --weights"
        )
    return found


def _check(args: argparse.Namespace) -> None:
    """Check that all that is needed is given, and no option in vain."""
    if args.format is None:
        raise ValueError(
            "--format, --onnx, --verify or --int8 must be given: results, a model to write, to "
            "compare or to quantise; got none"
        )
    for option in ("results", "nuscenes", "version", "out"):
        if getattr(args, option) is None:
            raise ValueError(f"--{option} must be given with --format; got none")
    for option in ("backend", "stream", "opset", "cameras", "config", "model", "split", "frames"):
        if getattr(args, option):
            raise ValueError(f"--{option} must be given with a model; got --format")
    for option, formats in (
        ("distro", ROS_FORMATS),
        ("autoware_version", ("autoware",)),
        ("light_ids", ("autoware",)),
        ("hazards", ("autoware",)),
        ("rear_axle_height", ("osi",)),
    ):
        if getattr(args, option) not in (None, False) and args.format not in formats:
            raise ValueError(
                f"--{option.replace('_', '-')} must be given with --format {' or '.join(formats)}; "
                f"got {args.format}"
            )


def _write(args: argparse.Namespace, frames: list[PlanningFrame]) -> None:
    if args.format in ROS_FORMATS:
        _write_bag(args, frames)
    elif args.format == "nuscenes":
        from bevstack.export.planning.nuscenes import write_nuscenes

        write_nuscenes(args.out, frames)
    elif args.format == "openlabel":
        from bevstack.export.planning.openlabel import write_openlabel

        write_openlabel(args.out, frames)
    elif args.format == "osi":
        from bevstack.export.planning.osi import REAR_AXLE_HEIGHT_M, write_osi

        height = REAR_AXLE_HEIGHT_M if args.rear_axle_height is None else args.rear_axle_height
        write_osi(args.out, frames, rear_axle_height_m=height)
    else:
        from bevstack.export.planning.apollo import write_apollo

        write_apollo(args.out, frames)


def _write_bag(args: argparse.Namespace, frames: list[PlanningFrame]) -> None:
    from bevstack.export.messages.store import DEFAULT_AUTOWARE, DEFAULT_DISTRO, open_store
    from bevstack.export.planning.autoware import AutowareOptions, write_autoware
    from bevstack.export.planning.vision_msgs import write_vision_msgs

    store = open_store(args.distro or DEFAULT_DISTRO, args.autoware_version or DEFAULT_AUTOWARE)
    if args.format == "vision_msgs":
        write_vision_msgs(args.out, frames, store)
        return
    options = AutowareOptions(light_ids=args.light_ids or "map", hazards=args.hazards)
    write_autoware(args.out, frames, store, options)
