r"""Play a bag of ROS 2 on the topics of ROS 2, for `bevstack node --dds`.

  bevstack play-bag --bag drive.mcap
  bevstack play-bag --bag drive.mcap --rate 0.5 --no-clock

Messages come at the pace of their recording, by Cyclone DDS and without an installation of ROS. The
player waits up to 10 s for a subscriber of images. /clock holds the time of each message, for a
node with the parameter use_sim_time: the stamps in a bag are old.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bevstack.cli.dds_options import add_dds, ended_by_interrupt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``bevstack play-bag``."""
    parser.add_argument(
        "--bag", type=Path, required=True, metavar="FILE", help="bag of ROS 2: .mcap or .db3"
    )
    parser.add_argument(
        "--rate", type=float, default=1.0, metavar="R", help="factor on the pace (default: 1)"
    )
    parser.add_argument("--no-clock", action="store_true", help="do not publish /clock")
    parser.add_argument(
        "--wait",
        type=float,
        default=10.0,
        metavar="S",
        help="longest time to wait for a subscriber of images (default: 10)",
    )
    add_dds(parser)


def run(args: argparse.Namespace) -> int:
    """Publish the messages of the bag and print their number.

    Raises:
        FileNotFoundError: the bag does not exist.
        ModuleNotFoundError: the extra ``ros`` is not installed.
        ValueError: the bag is damaged or of ROS 1, or an option is wrong.
    """
    from bevstack.export.messages.bag_reader import BagReader
    from bevstack.export.messages.store import open_store
    from bevstack.runtime.ros.dds import DdsTransport
    from bevstack.runtime.ros.player import play

    store = open_store()
    with BagReader(args.bag, store) as bag, ended_by_interrupt() as ended:
        transport = DdsTransport(bag.store, domain=args.domain, interface=args.interface)
        try:
            count = play(
                bag,
                transport,
                rate=args.rate,
                clock=not args.no_clock,
                wait_s=args.wait,
                ended=ended,
            )
        finally:
            transport.close()
    print(f"{count} messages of {args.bag}")
    return 0
