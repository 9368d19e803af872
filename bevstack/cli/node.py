r"""Run the inference node: images, calibrations and motion in, boxes, tracks and cues out.

  bevstack node --weights W --bag drive.mcap --sync --out results.mcap
  bevstack node --weights W --params node.yaml --bag drive.mcap --rate 0.5 --out results.mcap
  bevstack node --weights W --dds
  bevstack node --weights W --rclpy
  bevstack node --weights W --rospy
  bevstack node --model M --backend openvino --bag drive.mcap --sync --out results.mcap

--dds runs the node on the topics of ROS 2 until it is interrupted, with Cyclone DDS and without an
installation of ROS; `bevstack play-bag` plays a bag for it. --rclpy does the same with the rclpy of
an installation of ROS 2, as a managed node with parameters; `ros2 bag play --clock` plays a bag.
--rospy uses the topics of ROS 1, with rospy; `rosbag play --clock` plays a bag. --bag replays a bag
of ROS 1 or ROS 2 through the node, with the bag's own time, at the pace of its recording times
--rate: as on a vehicle, the newest images win. With --sync every message is processed in order, at
any speed, and the same bag gives the same bytes. The file of parameters is one of ROS 2; --set
changes single ones. --model runs a file of `bevstack export --onnx` in place of weights; with
--stream it has a history. docs/node.md lists parameters, topics and diagnostics.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bevstack.cli.dds_options import add_dds, ended_by_interrupt
from bevstack.cli.exported_options import add_model, check_model, open_model
from bevstack.cli.make_bag import ROS1_DISTROS, ROS2_DISTROS, default_distro
from bevstack.cli.options import add_device, add_no_verify, add_precision

if TYPE_CHECKING:
    from bevstack.export.messages.bag import Publication
    from bevstack.export.messages.status import Status
    from bevstack.export.messages.store import MessageStore
    from bevstack.runtime.node.core import NodeCore
    from bevstack.runtime.node.parameters import Parameters
    from bevstack.runtime.ros.transport import Transport
    from bevstack.runtime.stream_protocol import FrameDetector


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack node``."""
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights file, or name of packaged weights",
    )
    add_model(parser)
    add_no_verify(parser)
    add_device(parser)
    add_precision(parser)
    parser.add_argument(
        "--params", type=Path, metavar="FILE", help="YAML file of parameters, as ROS 2 has them"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter, after those of the file; lists as a,b,c; may be repeated",
    )
    bag = parser.add_argument_group("bags")
    bag.add_argument("--bag", type=Path, metavar="FILE", help="bag to replay: .mcap, .db3, .bag")
    bag.add_argument(
        "--sync", action="store_true", help="process every message in order, at any speed"
    )
    bag.add_argument(
        "--rate", type=float, metavar="R", help="factor on the pace, without --sync (default: 1)"
    )
    bag.add_argument(
        "--out", type=Path, metavar="FILE", help="bag for the results: .mcap, .db3 or .bag"
    )
    bag.add_argument(
        "--distro",
        choices=(*ROS1_DISTROS, *ROS2_DISTROS),
        help="distribution of ROS of the results (default: humble, for a .bag noetic)",
    )
    live = parser.add_argument_group("topics")
    live.add_argument(
        "--dds", action="store_true", help="subscribe and publish topics of ROS 2, by DDS"
    )
    live.add_argument(
        "--rclpy",
        action="store_true",
        help="subscribe and publish topics of ROS 2, by the rclpy of an installation of it, whose "
        "environment chooses domain and middleware",
    )
    live.add_argument(
        "--rospy",
        action="store_true",
        help="subscribe and publish topics of ROS 1, by rospy, on this machine alone unless ROS_IP "
        "or ROS_HOSTNAME is set",
    )
    add_dds(live)


def run(args: argparse.Namespace) -> int:
    """Run the node and print its numbers and the last diagnostics.

    Raises:
        FileNotFoundError: the weights, the model, the parameters or the bag do not exist.
        ModuleNotFoundError: the extra ``ros`` is not installed, or rclpy, rospy, a package of
            messages, or the model's backend.
        ValueError: a parameter is wrong, the bag is damaged or has other topics.
        OSError: the results cannot be written.
    """
    given = {"--bag": args.bag is not None, "--dds": args.dds, "--rclpy": args.rclpy}
    given["--rospy"] = args.rospy
    chosen = [option for option, is_given in given.items() if is_given]
    if len(chosen) != 1:
        raise ValueError(
            "one of --bag FILE, --dds, --rclpy and --rospy must be given; got "
            f"{' and '.join(chosen) or 'none'}"
        )
    if not check_model(args, left_out=("weights",)) and args.weights is None:
        raise ValueError("--weights or --model must be given; got neither")
    return _replay(args) if args.bag is not None else _run_live(args, chosen[0])


def _replay(args: argparse.Namespace) -> int:
    from bevstack.export.messages.bag import check_bag_path, write_bag
    from bevstack.export.messages.bag_reader import BagReader
    from bevstack.export.messages.store import open_store
    from bevstack.runtime.predict import check_writable
    from bevstack.runtime.ros.live_bag import LiveBag
    from bevstack.runtime.ros.replay import BagReplay
    from bevstack.runtime.ros.wiring import make_node

    if args.sync and args.rate is not None:
        raise ValueError(f"--rate must be given without --sync; got {args.rate:g}")
    parameters = _parameters(args)
    store = open_store(args.distro or default_distro(args.out or Path()))
    if args.out is not None:
        check_bag_path(args.out, store)
        check_writable(args.out)
    with BagReader(args.bag, store) as bag, ended_by_interrupt() as ended:
        detector = _load_detector(args)
        times = not args.sync  # else the same bag gives the same bytes
        parts = make_node(detector, parameters, store, model=_name(args), times=times)
        if args.sync:
            published = BagReplay(parts, bag).publications()
        else:
            player = LiveBag(parts, bag, rate=1.0 if args.rate is None else args.rate)
            published = _announced(player.publications(ended))
        if args.out is None:
            count = sum(1 for _ in published)
        else:
            count = write_bag(args.out, published, store)
        last_us = bag.span_ns[1] // 1000
    where = "" if args.out is None else f": {args.out}"
    _print_numbers(parts.core, parts.diagnostician.statuses(last_us), f"{count} messages{where}")
    return 0


def _name(args: argparse.Namespace) -> str:
    return str(args.weights if args.model is None else args.model)


def _load_detector(args: argparse.Namespace) -> FrameDetector:
    if args.model is not None:
        return open_model(args)
    from bevstack.runtime.devices import choose_device
    from bevstack.runtime.loading import load

    device = choose_device(args.device)
    return load(args.weights, device, verify=args.verify, precision=args.precision)


def _announced(published: Iterator[Publication]) -> Iterator[Publication]:
    """Print a line at the first result."""
    from bevstack.runtime.ros.publishing import DIAGNOSTICS_TOPIC

    is_first = True
    for publication in published:
        if is_first and publication.topic != DIAGNOSTICS_TOPIC:
            is_first = False
            print(f"first result at {publication.timestamp_us / 1e6:.3f} s", flush=True)
        yield publication


def _run_live(args: argparse.Namespace, option: str) -> int:
    from bevstack.export.messages.store import open_store
    from bevstack.runtime.ros.managed_node import ManagedNode
    from bevstack.runtime.ros.wiring import make_node

    if args.sync or args.out is not None:
        raise ValueError(f"--sync and --out must be given with --bag; got {option}")
    if option != "--dds" and (args.domain, args.interface) != (0, "lo"):
        raise ValueError(
            f"--domain and --interface must be given with --dds; got {option}: its environment "
            "chooses them"
        )
    parameters = _parameters(args)
    store = open_store(args.distro or _default_distro_of_topics(args))
    detector = _load_detector(args)
    open_topics = {"--dds": _open_dds, "--rclpy": _open_rclpy, "--rospy": _open_rospy}[option]
    transport, place = open_topics(args, store, parameters)
    parts = make_node(detector, parameters, store, model=_name(args), times=True)
    node = ManagedNode(parts, transport)
    with ended_by_interrupt() as ended:
        node.start()
        print(f"active on {place}", flush=True)
        node.run_until(ended)
    print(f"{parts.core.counts.steps} results, {parts.core.counts.skipped} windows skipped")
    return 0


def _open_dds(
    args: argparse.Namespace, store: MessageStore, parameters: Parameters
) -> tuple[Transport, str]:
    from bevstack.runtime.ros.dds import DdsTransport

    transport = DdsTransport(store, domain=args.domain, interface=args.interface)
    return transport, f"domain {args.domain}, interface {args.interface}"


def _default_distro_of_topics(args: argparse.Namespace) -> str:
    """Return the distribution of the sourced installation of ROS 2 if rclpy is used."""
    if args.rospy:
        return ROS1_DISTROS[0]
    sourced = os.environ.get("ROS_DISTRO") if args.rclpy else None
    return sourced if sourced in ROS2_DISTROS else ROS2_DISTROS[0]


def _open_rclpy(
    args: argparse.Namespace, store: MessageStore, parameters: Parameters
) -> tuple[Transport, str]:
    from bevstack.runtime.ros.rclpy import RclpyTransport

    transport = RclpyTransport(store, parameters)
    return transport, f"the topics of ROS 2 as /{parameters['node_name']}"


def _open_rospy(
    args: argparse.Namespace, store: MessageStore, parameters: Parameters
) -> tuple[Transport, str]:
    from bevstack.runtime.ros.rospy import RospyTransport

    if not os.environ.keys() & {"ROS_IP", "ROS_HOSTNAME"}:
        os.environ["ROS_IP"] = "127.0.0.1"  # rospy has no other way to keep to this machine
    transport = RospyTransport(store, name=parameters["node_name"])
    if transport.uses_simulated_time:
        parameters.set("use_sim_time", True)
    return transport, f"the topics of ROS 1 as /{parameters['node_name']}"


def _parameters(args: argparse.Namespace) -> Parameters:
    from bevstack.runtime.node.parameters import Parameters, parse_setting, read_parameters

    parameters = Parameters() if args.params is None else read_parameters(args.params)
    for text in args.set:
        parameters.set(*parse_setting(text))
    return parameters


def _print_numbers(core: NodeCore, statuses: list[Status], written: str) -> None:
    from bevstack.cli.tables import print_table
    from bevstack.training.progress_bar import make_console

    counts = core.counts
    print(
        f"{counts.windows} windows, {counts.steps} results, {counts.skipped} skipped, "
        f"{counts.blind} without a camera, {counts.refused} refused, {counts.restarts} restarts; "
        f"{written}"
    )
    rows = [(status.name, status.level_name, status.message) for status in statuses]
    print_table(make_console(), ("task", "level", "message"), rows, text_columns=3)
