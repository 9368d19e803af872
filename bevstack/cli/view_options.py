"""Options of ``bevstack view``: what is shown, from where, and in which state."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.options import (
    add_allow_outside,
    add_classes,
    add_cues,
    add_shown_manoeuvre,
)
from bevstack.cli.view_live_options import add_live, check_live, live_words, source_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bevstack.viewer.recorded import RecordedSource
    from bevstack.viewer.source import MomentSource
    from bevstack.viewer.view_state import Eye, ViewState

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8080


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Declare the options of what is shown."""
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="results or tracks of `bevstack predict` (default: show the truth alone)",
    )
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="results of a second model to compare with"
    )
    add_cues(parser)
    add_shown_manoeuvre(parser)
    nuscenes = parser.add_argument_group("images of a data set in nuScenes' format")
    nuscenes.add_argument("--nuscenes", type=Path, metavar="ROOT", help="folder of the data set")
    nuscenes.add_argument("--version", help="folder of the tables, e.g. v1.0-mini")
    nuscenes.add_argument("--scene", metavar="NAME", help="scene to open (default: the first)")
    add_classes(nuscenes)
    add_live(parser)
    add_allow_outside(parser)


def add_state(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the first view."""
    view = parser.add_argument_group("first view; the viewer prints these options for any view")
    view.add_argument(
        "--frame",
        type=int,
        metavar="N",
        help="frame of the scene, from 0 (default: 0; of a live drive, the newest)",
    )
    view.add_argument(
        "--min-score",
        type=float,
        default=0.2,
        metavar="S",
        help="lowest score of a predicted box to show (default: %(default)s)",
    )
    view.add_argument(
        "--color-by",
        choices=("class", "identity", "score", "error", "model"),
        help="colour of boxes (default: class; with --against, model)",
    )
    view.add_argument(
        "--match-within",
        type=float,
        default=2.0,
        metavar="M",
        choices=(0.5, 1.0, 2.0, 4.0),
        help="distance of a true positive in metres: 0.5, 1, 2 or 4 (default: 2)",
    )
    view.add_argument(
        "--camera",
        type=_camera,
        metavar="X,Y,Z,X,Y,Z",
        help="place of the view's camera and the point that it looks at, in metres from the "
        "vehicle: x forward, y left, z up",
    )


def add_server(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the server."""
    server = parser.add_argument_group("server")
    server.add_argument(
        "--host",
        default=LOOPBACK,
        help="address to listen on; any but %(default)s lets other machines look "
        "(default: %(default)s)",
    )
    server.add_argument(
        "--port",
        type=int,
        default=DEFAULT_PORT,
        metavar="N",
        help="port of the address; 0: a free one (default: %(default)s)",
    )


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """Declare the options of saved pictures and of the window."""
    pictures = parser.add_argument_group(
        "pictures, a window or a recording, instead of the browser"
    )
    pictures.add_argument(
        "--save",
        type=Path,
        metavar="FILE|DIR",
        help="FILE.png or .jpg: the frame; FILE.gif, .webp or .mp4: its scene; a folder: one "
        "picture of each frame of the scene",
    )
    pictures.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(1280, 560),
        metavar=("W", "H"),
        help="pixels of the saved view of the scene, without the cameras (default: 1280 560)",
    )
    pictures.add_argument(
        "--renderer",
        choices=("auto", "open3d", "opencv"),
        default="auto",
        help="auto: Open3D if it is installed, else OpenCV (default: %(default)s)",
    )
    pictures.add_argument(
        "--window", action="store_true", help="show the frame in a window of Open3D"
    )
    pictures.add_argument(
        "--record",
        type=Path,
        metavar="FILE.rrd",
        help="write the scene as a recording for rerun's viewer",
    )


def check_inputs(args: argparse.Namespace) -> None:
    """Check that the options fit.

    Raises:
        ValueError: an option is missing, or two exclude each other.
    """
    source = source_option(args)
    if source != "--nuscenes":
        check_live(args)
    if source == "--nuscenes" and args.version is None:
        raise ValueError("--version must be given with --nuscenes, e.g. v1.0-mini; got none")
    if args.against is not None and args.results is None:
        raise ValueError("--results FILE must be given with --against; got none")
    _check_outputs(args)
    if not all(64 <= side <= 8192 for side in args.size):
        raise ValueError(f"--size must be from 64 to 8192 pixels; got {list(args.size)}")
    if not 0 <= args.port <= 65535:
        raise ValueError(f"--port must be from 0 to 65535; got {args.port}")


def _check_outputs(args: argparse.Namespace) -> None:
    given = [name for name in ("save", "window", "record") if getattr(args, name)]
    if len(given) > 1:
        names = " and ".join(f"--{name}" for name in given)
        raise ValueError(f"{names} must not be given together; got {len(given)} of them")
    if args.record is None:
        return
    if args.record.suffix == ".mcap":
        raise ValueError(
            f"--record must be a file of rerun, FILE.rrd; got {args.record}: the node writes MCAP, "
            "`bevstack node --bag DRIVE.mcap --out FILE.mcap`"
        )
    if args.record.suffix != ".rrd":
        raise ValueError(f"--record must be a name that ends with .rrd; got {args.record}")


def recorded_source(args: argparse.Namespace) -> RecordedSource:
    """Return the source that the options name."""
    from bevstack.viewer.recorded import RecordedSource

    results = tuple(path for path in (args.results, args.against) if path is not None)
    return RecordedSource(
        root=args.nuscenes,
        version=args.version,
        results=results,
        scenes=None,
        cues=args.cues,
        manoeuvre=args.manoeuvre or "",
        classes=args.classes,
        allow_outside=args.allow_outside,
    )


def first_state(args: argparse.Namespace, source: MomentSource) -> ViewState:
    """Return the state of the first view.

    Raises:
        ValueError: the scene or the frame does not exist.
    """
    from bevstack.viewer.view_state import Eye, ViewState

    scene = args.scene or source.scenes[0]
    if scene not in source.scenes:
        raise ValueError(
            f"--scene must be one of {', '.join(source.scenes)}; got {scene}: the results hold no "
            "sample of it, or the data set does not have it"
        )
    count, frame = source.count(scene), args.frame or 0
    if not 0 <= frame < count:
        raise ValueError(f"--frame must be from 0 to {count - 1}, the last of {scene}; got {frame}")
    compared = len(source.model_names) > 1
    _check_coloring(args, source)
    eye = Eye()
    if args.camera is not None:
        eye = Eye(position_m=args.camera[0], look_at_m=args.camera[1])
    return ViewState(
        scene=scene,
        index=frame,
        min_score=args.min_score,
        labels=frozenset(range(len(source.class_names))),
        color_by=args.color_by or ("model" if compared else "class"),
        distance_m=args.match_within,
        eye=eye,
    )


def _check_coloring(args: argparse.Namespace, source: MomentSource) -> None:
    """Check that the source has what the colours stand for."""
    needs = {
        "error": (bool(source.distances_m), "results and true boxes"),
        "score": (bool(source.model_names), "results"),
        "model": (len(source.model_names) > 1, "results of two models"),
    }
    has, what = needs.get(args.color_by, (True, ""))
    if not has:
        raise ValueError(f"--color-by {args.color_by} must have {what}; got none: choose class")


def command_line(args: argparse.Namespace, state: ViewState, eye: Eye) -> str:
    """Return the command that opens a state of the view from a camera."""
    words = ["bevstack", "view"]
    if args.nuscenes is None:
        words += live_words(args)
    else:
        words += ["--nuscenes", str(args.nuscenes), "--version", args.version]
    for option in ("results", "against", "cues", "manoeuvre", "classes"):
        if getattr(args, option) is not None:
            words += [f"--{option}", str(getattr(args, option))]
    if args.allow_outside:
        words.append("--allow-outside")
    words += ["--scene", state.scene, "--frame", str(state.index)]
    words += ["--min-score", f"{state.min_score:g}", "--color-by", state.color_by]
    words += ["--match-within", f"{state.distance_m:g}"]
    places: Sequence[float] = (*eye.position_m, *eye.look_at_m)
    words.append("--camera=" + ",".join(f"{place:g}" for place in places))
    return shlex.join(words)


def _camera(text: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Parse six numbers with commas."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"must be six numbers with commas; got {text!r}")
    x, y, z, *look_at = numbers
    return (x, y, z), (look_at[0], look_at[1], look_at[2])
