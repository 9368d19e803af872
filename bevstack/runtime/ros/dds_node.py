"""The node on DDS, and a player of bags for it: topics of ROS 2 without an installation of it."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable

from bevstack.export.messages.bag import LATCHED_TOPICS, Publication
from bevstack.export.messages.bag_reader import BagReader
from bevstack.export.messages.status import make_transition_event
from bevstack.export.messages.store import MessageStore
from bevstack.runtime.node.lifecycle import Lifecycle, State, Transition
from bevstack.runtime.node.warm_up import warm_up
from bevstack.runtime.ros.dds import DdsTransport
from bevstack.runtime.ros.live import LiveNode, wall_clock_us
from bevstack.runtime.ros.publishing import DIAGNOSTICS_TOPIC
from bevstack.runtime.ros.quality import RESULTS, Quality
from bevstack.runtime.ros.replay import NodeParts
from bevstack.runtime.ros.subscriptions import CLOCK_TOPIC, Subscription, subscriptions

_CLOCK_TYPE = "rosgraph_msgs/msg/Clock"
_CLOCK_QUALITY = Quality(depth=1, reliable=False)


class DdsNode:
    """A live node whose messages come and go by DDS.

    Args:
        parts: the node.
        transport: the topics.
    """

    def __init__(self, parts: NodeParts, transport: DdsTransport) -> None:
        self.live = LiveNode(parts, transport.publish, state=State.UNCONFIGURED)
        self.lifecycle = Lifecycle(
            {
                "configure": self._configure,
                "activate": self._activate,
                "deactivate": self._deactivate,
                "shutdown": self._shut_down,
            },
            self._announce,
        )
        self._transport = transport
        self._store = transport.store
        parameters = parts.core.parameters
        for subscription in subscriptions(parameters):
            transport.subscribe(
                subscription.topic,
                subscription.type_name,
                subscription.quality,
                self._receiver(subscription),
            )
        if parameters["use_sim_time"]:
            transport.subscribe(CLOCK_TOPIC, _CLOCK_TYPE, _CLOCK_QUALITY, self._take_clock)
        for topic, type_name in parts.publisher.advertised():
            transport.advertise(topic, type_name, parts.publisher.quality(topic))
        quality = parts.publisher.quality(DIAGNOSTICS_TOPIC)
        transport.advertise(DIAGNOSTICS_TOPIC, "diagnostic_msgs/msg/DiagnosticArray", quality)

    def start(self) -> None:
        """Start the node: configure and activate it.

        Raises:
            ValueError: the detector refuses the first pass.
        """
        for label in ("configure", "activate"):
            change = self.lifecycle.change(label)
            if change.reason:
                raise ValueError(change.reason)

    def run_until(self, ended: threading.Event) -> None:
        """Wait for an event, or for a fault of the program, which is raised again; then stop."""
        while not ended.wait(0.1) and not self.live.has_ended:
            pass
        self.lifecycle.change("shutdown")
        self._transport.close()
        if self.live.failure is not None:
            raise self.live.failure

    def _configure(self) -> None:
        core = self.live.parts.core
        warm_up(core.detector, core.parameters.cameras)
        self._transport.start()
        self.live.state = State.INACTIVE
        self.live.start()

    def _activate(self) -> None:
        self.live.state = State.ACTIVE

    def _deactivate(self) -> None:
        self.live.state = State.INACTIVE

    def _shut_down(self) -> None:
        self.live.stop()

    def _announce(self, transition: Transition) -> None:
        """Publish a transition, with the time of the system."""
        time_us = wall_clock_us()
        ends = [(state.value, state.label) for state in (transition.start, transition.goal)]
        message = make_transition_event(
            self._store, time_us, (transition.number, transition.label), ends
        )
        topic = self.live.parts.publisher.topic("transition_event")
        self._transport.publish(Publication(topic, time_us, message))

    def _receiver(self, subscription: Subscription) -> Callable[[bytes], None]:
        def receive(data: bytes) -> None:
            try:
                message = self._store.from_bytes(data, subscription.type_name)
            except ValueError as error:
                self.live.deliver_undecodable(subscription.topic, str(error))
            else:
                self.live.deliver(subscription, message)

        return receive

    def _take_clock(self, data: bytes) -> None:
        try:
            message = self._store.from_bytes(data, _CLOCK_TYPE)
        except ValueError as error:
            self.live.deliver_undecodable(CLOCK_TOPIC, str(error))
        else:
            self.live.deliver_clock(message)


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
