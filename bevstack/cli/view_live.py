"""The parts of ``bevstack view`` for drives that grow while they are shown."""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bevstack.cli.dds_options import ended_by_interrupt
from bevstack.cli.view_live_options import inference_options
from bevstack.cli.view_options import first_state

if TYPE_CHECKING:
    from bevstack.viewer.growing import GrowingDrive
    from bevstack.viewer.moment import Moment
    from bevstack.viewer.source import MomentSource
    from bevstack.viewer.view_state import ViewState

Show = Callable[["MomentSource", "ViewState"], int]


def show_inference(args: argparse.Namespace, show: Show) -> int:
    """Show frames while a model runs over them in a process of its own.

    Raises:
        FileNotFoundError: the rig, the frames or the weights do not exist.
        ValueError: a file is damaged, or the options do not fit.
    """
    from bevstack.viewer.browser.server import check_free
    from bevstack.viewer.growing import GrowingDrive
    from bevstack.viewer.inference import InferenceProcess

    options = inference_options(args)
    source = options.open_source()  # a mistake is found before the model is loaded
    check_free(args.host, args.port)
    total = len(source.files.listed) or None
    drive = GrowingDrive(kept=args.keep)
    process = InferenceProcess(options, drive, num_frames=total)
    try:
        print(
            f"bevstack view: waits for the first frame of {args.weights}",
            file=sys.stderr,
            flush=True,
        )
        return show_growing(args, drive, show)
    finally:
        process.stop()


def show_node(args: argparse.Namespace, show: Show) -> int:
    """Show or record a running node, for which it waits.

    Raises:
        FileNotFoundError: the file of parameters does not exist.
        ModuleNotFoundError: the extra ``ros`` is not installed.
        ValueError: the interface does not exist, or an option does not fit.
    """
    from bevstack.export.messages.store import open_store
    from bevstack.runtime.node.parameters import Parameters, read_parameters
    from bevstack.runtime.ros.dds import DdsTransport
    from bevstack.viewer.growing import GrowingDrive
    from bevstack.viewer.node_moments import NodeListener, NodeMoments

    parameters = Parameters() if args.params is None else read_parameters(args.params)
    if args.record is None:
        from bevstack.viewer.browser.server import check_free

        check_free(args.host, args.port)
    store, drive = open_store(), GrowingDrive(kept=args.keep)
    moments = NodeMoments(parameters, store, drive=drive)
    transport = DdsTransport(store, domain=args.domain, interface=args.interface)
    listener = NodeListener(moments, transport)
    listener.start()
    print(
        f"bevstack view: waits for results on {moments.result_topic('detections')} (domain "
        f"{args.domain}, interface {args.interface}) of a node that `bevstack node --dds` starts",
        file=sys.stderr,
        flush=True,
    )
    try:
        if args.record is None:
            return show_growing(args, drive, show)
        with ended_by_interrupt() as ended:
            return record_growing(args, drive.follow(ended), ended)
    finally:
        listener.stop()


def show_bags(args: argparse.Namespace, show: Show) -> int:
    """Show or record bags of a node's results while they are read.

    Raises:
        FileNotFoundError: a bag or the file of parameters does not exist.
        ModuleNotFoundError: the extra ``ros`` is not installed.
        ValueError: a bag is damaged, or none holds results.
    """
    from bevstack.runtime.node.parameters import Parameters, read_parameters
    from bevstack.viewer.growing import GrowingDrive
    from bevstack.viewer.node_bag import BagMoments

    parameters = Parameters() if args.params is None else read_parameters(args.params)
    # A recording takes all moments, however fast they are read.
    drive = GrowingDrive(kept=args.keep if args.record is None else None)
    bags = BagMoments(args.bag, parameters, drive=drive)
    try:
        if args.record is None:
            return show_growing(args, drive, show)
        with ended_by_interrupt() as ended:
            return record_growing(args, drive.follow(ended), ended)
    finally:
        bags.stop()


def show_growing(args: argparse.Namespace, drive: GrowingDrive, show: Show) -> int:
    """Show a growing drive once its first frame is there, or that of ``--frame``.

    Raises:
        Exception: that which ended the drive before.
        ValueError: the drive has no such frame.
    """
    drive.wait_for(args.frame or 0)
    if drive.failure is not None and not drive.count(""):
        raise drive.failure
    return show(drive, first_state(args, drive))


def save_inference(args: argparse.Namespace, show: Show) -> int:
    """Run a model over all frames, and then show, save or open them.

    Raises:
        FileNotFoundError: the rig, the frames, a picture or the weights do not exist.
        ValueError: a file is damaged, or the options do not fit.
    """
    from bevstack.viewer.growing import GrowingDrive
    from bevstack.viewer.inference import infer

    drive = GrowingDrive(kept=None)
    for moment in infer(inference_options(args)):
        drive.add(moment)
    drive.end()
    return show(drive, first_state(args, drive))


def record_inference(args: argparse.Namespace) -> int:
    """Run a model over the frames and record them, up to an interrupt.

    Raises:
        FileNotFoundError: the rig, the frames, a picture or the weights do not exist.
        ValueError: a file is damaged, or the options do not fit.
        OSError: the recording cannot be written.
    """
    from bevstack.viewer.inference import infer

    with ended_by_interrupt() as ended:
        return record_growing(args, infer(inference_options(args)), ended)


def record_growing(
    args: argparse.Namespace, moments: Iterator[Moment], ended: threading.Event
) -> int:
    """Record moments up to an event, and print their number.

    Raises:
        OSError: the recording cannot be written.
    """
    from bevstack.runtime.predict import check_writable
    from bevstack.viewer.growing import GrowingDrive
    from bevstack.viewer.rerun_file import record_moments

    check_writable(args.record)  # before the first moment is computed
    drive, count = GrowingDrive(), 0
    for first in itertools.islice(moments, 1):
        drive.add(first)
        until_end = itertools.takewhile(lambda _: not ended.is_set(), moments)
        state = first_state(args, drive)
        count = record_moments(itertools.chain([first], until_end), args.record, state)
    print(f"{count} frames: {args.record}")
    return 0
