"""A player of bags on the topics of ROS 2, without an installation of it."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable

from bevstack.export.messages.bag import LATCHED_TOPICS
from bevstack.export.messages.bag_reader import BagReader
from bevstack.export.messages.store import MessageStore
from bevstack.runtime.ros.dds import DdsTransport
from bevstack.runtime.ros.quality import RESULTS, Quality
from bevstack.runtime.ros.subscriptions import CLOCK_TOPIC

_CLOCK_TYPE = "rosgraph_msgs/msg/Clock"
_SETTLE_S = 2.0  # longest time to wait for the subscribers after the first one


def play(
    bag: BagReader,
    transport: DdsTransport,
    *,
    rate: float = 1.0,
    clock: bool = True,
    wait_s: float = 10.0,
    ended: threading.Event | None = None,
) -> int:
    """Publish the messages of a bag of ROS 2 at the pace of their recording; return their number.

    Args:
        bag: the bag.
        transport: the topics; it is left open.
        rate: factor on the pace.
        clock: publish /clock with the time of each message, for nodes with ``use_sim_time``.
        wait_s: longest time to wait for a subscriber before the first message.
        ended: ends the playing early.

    Raises:
        ValueError: the bag is of ROS 1 or damaged, or the rate is not positive.
    """
    if not rate > 0:
        raise ValueError(f"rate must be positive; got {rate}")
    if bag.path.suffix == ".bag":
        raise ValueError(f"bag must be of ROS 2 to be played; got {bag.path}")
    known = {t: name for t, name in bag.topics.items() if name in transport.store.types.types}
    if len(known) < len(bag.topics):
        left_out = ", ".join(sorted(bag.topics.keys() - known.keys()))
        warnings.warn(f"topics of types that are not known are left out: {left_out}", stacklevel=2)
    for topic, type_name in known.items():
        latched = topic in LATCHED_TOPICS
        transport.advertise(topic, type_name, Quality(depth=100, reliable=True, latched=latched))
    if clock:
        transport.advertise(CLOCK_TOPIC, _CLOCK_TYPE, RESULTS)
    images = [topic for topic, name in bag.topics.items() if name.endswith("Image")]
    _wait_for(lambda: any(transport.num_readers(topic) for topic in images), wait_s)
    # The first subscriber is rarely the last: a node has one for each camera.
    _wait_for(lambda: all(transport.num_readers(topic) for topic in known), min(wait_s, _SETTLE_S))
    count, started, first_ns = 0, time.monotonic(), None
    for raw in bag.messages(known):
        first_ns = raw.time_ns if first_ns is None else first_ns
        due = started + (raw.time_ns - first_ns) * 1e-9 / rate
        time.sleep(max(0.0, due - time.monotonic()))
        if ended is not None and ended.is_set():
            break
        if clock and raw.topic != CLOCK_TOPIC:
            _publish_clock(transport, raw.time_ns // 1000)
        transport.publish_bytes(raw.topic, raw.type_name, raw.data)
        count += 1
    return count


def _publish_clock(transport: DdsTransport, time_us: int) -> None:
    from bevstack.export.messages.sensors import make_clock

    store: MessageStore = transport.store
    data = store.to_bytes(make_clock(store, time_us))
    transport.publish_bytes(CLOCK_TOPIC, _CLOCK_TYPE, data)


def _wait_for(condition: Callable[[], bool], longest_s: float) -> None:
    end = time.monotonic() + longest_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
