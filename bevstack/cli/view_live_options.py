"""Options of ``bevstack view`` for drives that are computed or received while they are shown."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.dds_options import add_dds
from bevstack.cli.options import add_device, add_no_verify, add_precision

if TYPE_CHECKING:
    from bevstack.viewer.inference import InferenceOptions

DEFAULT_KEPT = 500
# Options -> the sources that they belong to.
_OWNERS = {
    ("version", "results", "against", "cues", "manoeuvre", "classes"): ("--nuscenes",),
    ("images", "weights", "lost", "interval", "no_history", "track"): ("--rig",),
    ("params",): ("--listen", "--bag"),
}


def add_live(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a model that runs over frames, and of a running node."""
    live = parser.add_argument_group("live inference over your own frames")
    live.add_argument(
        "--rig", type=Path, metavar="FILE", help="calibration of the cameras: a JSON rig file"
    )
    live.add_argument(
        "--images",
        "--frames",
        dest="images",
        type=Path,
        metavar="DIR",
        help="frames of a drive, as `bevstack predict --frames` takes them: a table frames.json, "
        "or a folder with one, with a folder of pictures a camera, or with a folder a frame",
    )
    live.add_argument(
        "--weights", type=Path, metavar="FILE", help="weights file, or name of packaged weights"
    )
    live.add_argument(
        "--lost",
        action="append",
        default=[],
        metavar="CAMERA",
        help="camera of the rig without an image; may be repeated",
    )
    live.add_argument(
        "--interval", type=float, metavar="S", help="seconds from frame to frame (default: all)"
    )
    live.add_argument(
        "--no-history",
        action="store_true",
        help="predict each frame by itself, which needs no poses",
    )
    live.add_argument("--track", action="store_true", help="track objects from frame to frame")
    add_device(live)
    add_precision(live)
    add_no_verify(live)
    node = parser.add_argument_group("a running node")
    node.add_argument(
        "--listen", action="store_true", help="show what `bevstack node --dds` takes and publishes"
    )
    node.add_argument(
        "--bag",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="bags instead of topics: the node's results, and the drive for its pictures",
    )
    node.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="the node's file of parameters, if its cameras, topics or frames are not the default",
    )
    add_dds(node)
    parser.add_argument(
        "--keep",
        type=int,
        default=DEFAULT_KEPT,
        metavar="N",
        help="newest frames of a live drive that are kept to scroll back (default: %(default)s)",
    )


def source_option(args: argparse.Namespace) -> str:
    """Return the option that names the source: ``--nuscenes``, ``--rig``, ``--listen``, ``--bag``.

    Raises:
        ValueError: none or several are given, or options of another source.
    """
    given = {
        "--nuscenes ROOT": args.nuscenes,
        "--rig FILE": args.rig,
        "--listen": args.listen,
        "--bag FILE": args.bag,
    }
    chosen = [option for option, value in given.items() if value]
    if len(chosen) != 1:
        raise ValueError(
            "one of --nuscenes ROOT, --rig FILE, --listen and --bag FILE must be given; got "
            f"{' and '.join(chosen) or 'none'}"
        )
    option = chosen[0].split()[0]
    for names, owners in _OWNERS.items():
        foreign = [name for name in names if getattr(args, name)] if option not in owners else []
        if foreign:
            name = foreign[0].replace("_", "-")
            raise ValueError(f"--{name} must be given with {' or '.join(owners)}; got {option}")
    return option


def check_live(args: argparse.Namespace) -> None:
    """Check the options of live drives.

    Raises:
        ValueError: an option is missing or out of range.
    """
    check_kept(args)
    if args.listen or args.bag:
        if args.save is not None or args.window:
            raise ValueError(
                "--listen and --bag must be given without --save and --window; got one of them: "
                "record the drive with --record FILE.rrd"
            )
        return
    for option, value in (("--images DIR", args.images), ("--weights FILE", args.weights)):
        if value is None:
            raise ValueError(f"{option} must be given with --rig; got none")
    if args.no_history and args.track:
        raise ValueError(
            "--track and --no-history must not be given together; got both: tracks are a history"
        )


def check_kept(args: argparse.Namespace) -> None:
    """Check the number of frames that are kept.

    Raises:
        ValueError: it is not from 2 to 1000000.
    """
    if not 2 <= args.keep <= 1_000_000:
        raise ValueError(f"--keep must be from 2 to 1000000 frames; got {args.keep}")


def inference_options(args: argparse.Namespace) -> InferenceOptions:
    """Return the frames and the detector that the options name."""
    from bevstack.viewer.inference import InferenceOptions

    return InferenceOptions(
        rig=args.rig,
        images=args.images,
        weights=str(args.weights),
        device=args.device,
        precision=args.precision,
        verify=args.verify,
        lost=tuple(args.lost),
        interval_s=args.interval,
        history=not args.no_history,
        track=args.track,
        allow_outside=args.allow_outside,
    )


def live_words(args: argparse.Namespace) -> list[str]:
    """Return the words of the command line that name the same source."""
    if args.bag:
        words = ["--bag", *map(str, args.bag)]
        return words + ([] if args.params is None else ["--params", str(args.params)])
    if args.listen:
        words = ["--listen", "--domain", str(args.domain), "--interface", args.interface]
        return words + ([] if args.params is None else ["--params", str(args.params)])
    words = ["--rig", str(args.rig), "--images", str(args.images), "--weights", str(args.weights)]
    for name in args.lost:
        words += ["--lost", name]
    if args.interval is not None:
        words += ["--interval", f"{args.interval:g}"]
    words += ["--no-history"] * args.no_history + ["--track"] * args.track
    words += [] if args.verify else ["--no-verify"]
    for option, default in (("device", "auto"), ("precision", "float32")):
        if getattr(args, option) != default:
            words += [f"--{option}", getattr(args, option)]
    return words
