"""Options of ``bevstack predict`` for files of tracks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.runtime.predict_tracks import TrackOptions


def add_track(model: argparse._ArgumentGroup) -> None:
    """Declare ``--track``, ``--tracks`` and ``--coasted``."""
    model.add_argument(
        "--track",
        action="store_true",
        help="track objects from frame to frame, which smooths boxes and keeps hidden objects",
    )
    model.add_argument(
        "--tracks",
        type=Path,
        metavar="FILE",
        help="also write the tracks with their identities, as JSON of nuScenes' tracking task; "
        "needs --track and --nuscenes",
    )
    model.add_argument(
        "--coasted",
        action="store_true",
        help="keep objects in --tracks that have no box in a frame; they lower AMOTA",
    )


def check_tracks(args: argparse.Namespace) -> None:
    """Check that the options of tracks fit, and that their file can be written.

    Raises:
        ValueError: ``--tracks`` without ``--track`` or ``--nuscenes``, with the name of ``--out``
            or another suffix than .json; or ``--coasted`` without ``--tracks``.
        OSError: the file cannot be written.
    """
    if args.tracks is None:
        if args.coasted:
            raise ValueError("--tracks must be given with --coasted; got none")
        return
    from bevstack.runtime.predict import check_writable

    if not args.track or args.nuscenes is None:
        missing = "--nuscenes" if args.track else "--track"
        raise ValueError(f"{missing} must be given with --tracks; got none")
    if args.tracks.absolute() == args.out.absolute() or args.tracks.suffix != ".json":
        raise ValueError(
            f"--tracks must be another file than --out, with a name in .json; got {args.tracks}"
        )
    check_writable(args.tracks)


def track_options(args: argparse.Namespace) -> TrackOptions | None:
    """Return the options of the file of tracks; None if none is wanted."""
    if args.tracks is None:
        return None
    from bevstack.runtime.predict_tracks import TrackOptions

    return TrackOptions(args.tracks, coasted=args.coasted)
