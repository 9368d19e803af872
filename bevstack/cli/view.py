"""See a drive in the browser: boxes, tracks, errors, cameras, lights and signs.

  bevstack view --results results.json --nuscenes ROOT --version v1.0-mini
  bevstack view --results a.json --against b.json --nuscenes ROOT --version v1.0-mini
  bevstack view --nuscenes ROOT --version v1.0-synth --scene NAME
  bevstack view --rig rig.json --images DIR --weights W --track
  bevstack view --listen --domain 7
  bevstack view --bag results.mcap drive.mcap
  bevstack view --results results.json --nuscenes ROOT --version v1.0-mini --save drive.mp4
  bevstack view --results results.json --nuscenes ROOT --version v1.0-mini --record drive.rrd

Without --results, the true boxes are shown alone. --rig shows your own frames while a model runs
over them, --listen a node that `bevstack node --dds` runs, --bag what a node has written. The
command prints one address; open it in a browser on this machine. Nothing is loaded from the
network. It ends with Ctrl-C. --save writes pictures instead and prints their paths, --window opens
a window of this machine's display, and --record writes a recording for rerun's viewer.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
from typing import TYPE_CHECKING

from bevstack.cli.view_live import (
    record_inference,
    save_inference,
    show_bags,
    show_inference,
    show_node,
)
from bevstack.cli.view_options import (
    LOOPBACK,
    add_inputs,
    add_pictures,
    add_server,
    add_state,
    check_inputs,
    command_line,
    first_state,
    recorded_source,
)

if TYPE_CHECKING:
    from bevstack.viewer.source import MomentSource
    from bevstack.viewer.view_state import ViewState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack view``."""
    add_inputs(parser)
    add_state(parser)
    add_pictures(parser)
    add_server(parser)


def run(args: argparse.Namespace) -> int:
    """Show the drive until it is interrupted, or save pictures of it.

    Raises:
        FileNotFoundError: the results, the data set or a table does not exist.
        ValueError: options that do not fit, a damaged file, or a port in use.
        ModuleNotFoundError: the extra view is not installed.
    """
    check_inputs(args)
    _end_without_collection()
    if args.listen or args.bag:
        show_live = show_node if args.listen else show_bags
        return show_live(args, lambda source, state: _show(args, source, state))
    if args.rig is not None:
        if args.record is not None:
            return record_inference(args)
        show = save_inference if args.save is not None or args.window else show_inference
        return show(args, lambda source, state: _show(args, source, state))
    from bevstack.viewer.recorded import RecordedDrives

    source = RecordedDrives(recorded_source(args))
    return _show(args, source, first_state(args, source))


def _end_without_collection() -> None:
    """Let the process end without its last search for garbage, which takes 0.7 s of CPU time.

    It would go through all objects of torch and its modules while an interrupt seems to do nothing.
    """
    atexit.unregister(gc.freeze)  # of an earlier call
    atexit.register(gc.freeze)  # what is frozen is not searched


def _show(args: argparse.Namespace, source: MomentSource, state: ViewState) -> int:
    if args.save is not None:
        return _save(args, source, state)
    if args.window:
        return _open_window(source, state)
    if args.record is not None:
        return _record(args, source, state)
    return _serve(args, source, state)


def _serve(args: argparse.Namespace, source: MomentSource, state: ViewState) -> int:
    from bevstack.viewer.browser.clients import Clients
    from bevstack.viewer.browser.controls import Controls
    from bevstack.viewer.browser.viewer import Viewer

    viewer = Viewer(source, state, host=args.host, port=args.port)
    try:
        Controls(viewer)
        Clients(viewer, lambda shown, eye: command_line(args, shown, eye))
        viewer.show_newest(args.frame is None)
        viewer.start()
        if args.host != LOOPBACK:
            print(
                f"bevstack view: warning: listens on {args.host}: every machine that reaches it "
                "sees the pictures and can change the view",
                file=sys.stderr,
            )
        print(viewer.address, flush=True)
        viewer.wait()
    finally:
        viewer.stop()
    return 0


def _save(args: argparse.Namespace, source: MomentSource, state: ViewState) -> int:
    from bevstack.viewer.open3d_view import PictureRenderer, check_drawing, is_installed
    from bevstack.viewer.opencv_view import OpenCVRenderer
    from bevstack.viewer.pictures import Renderer, save_pictures

    renderer: Renderer
    if args.renderer == "open3d" or (args.renderer == "auto" and is_installed()):
        check_drawing()
        renderer = PictureRenderer(tuple(args.size))
    else:
        renderer = OpenCVRenderer(tuple(args.size))
    print("\n".join(map(str, save_pictures(source, state, args.save, renderer))))
    return 0


def _record(args: argparse.Namespace, source: MomentSource, state: ViewState) -> int:
    from bevstack.viewer.rerun_file import record_moments

    indices = range(source.count(state.scene))
    moments = (source.moment(state.scene, index) for index in indices)
    count = record_moments(moments, args.record, state)
    print(f"{count} frames: {args.record}")
    return 0


def _open_window(source: MomentSource, state: ViewState) -> int:
    from bevstack.viewer.drawn import draw
    from bevstack.viewer.open3d_view import check_drawing, show_window
    from bevstack.viewer.pinhole import Pinhole

    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ValueError(
            "--window must have a display; got neither DISPLAY nor WAYLAND_DISPLAY: save pictures "
            "with --save FILE.png, or open the viewer in a browser"
        )
    check_drawing()
    moment = source.moment(state.scene, state.index)
    show_window(
        draw(moment, state), f"{state.scene} {state.index}", Pinhole(state.eye, (1280, 720))
    )
    return 0
