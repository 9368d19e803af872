"""A bag played through the node at the pace of its recording: the newest window wins, as live."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

from bevstack.export.messages.bag import Publication
from bevstack.export.messages.bag_reader import BagReader, RawMessage
from bevstack.runtime.node.warm_up import exclude_existing_from_collection, warm_up
from bevstack.runtime.ros.live import LiveNode
from bevstack.runtime.ros.replay import NodeParts, check_topics, clocked_topics
from bevstack.runtime.ros.subscriptions import CLOCK_TOPIC, subscriptions

_LAST_STEP_S = 30.0  # longest wait for the results of the last window
_POLL_S = 0.02


class LiveBag:
    """Bag whose messages come to a live node as they were recorded.

    The node's time is that of the bag, which runs from its first message on.

    Args:
        parts: the node.
        bag: the open bag; it is read by the thread that iterates over ``publications``.
        rate: factor on the pace.

    Raises:
        ValueError: the bag has no topic that the node takes images from, or topics of other types,
            or the rate is not positive.
    """

    def __init__(self, parts: NodeParts, bag: BagReader, *, rate: float = 1.0) -> None:
        if not 0 < rate < float("inf"):
            raise ValueError(f"rate must be positive and finite; got {rate}")
        wanted = subscriptions(parts.core.parameters)
        check_topics(bag, wanted)
        self.parts = parts
        self.bag = bag
        self.rate = rate
        self._by_topic = {subscription.topic: subscription for subscription in wanted}
        self._topics = clocked_topics(bag, parts.core.parameters, self._by_topic)
        self._start_us = bag.span_ns[0] // 1000
        self._started: float | None = None  # monotonic, of the first message

    def now_us(self) -> int:
        """Return the bag's time."""
        if self._started is None:
            return self._start_us
        return self._start_us + round(1e6 * self.rate * (time.monotonic() - self._started))

    def publications(self, ended: threading.Event | None = None) -> Iterator[Publication]:
        """Run the model once, play the bag, and yield all that the node publishes meanwhile.

        Args:
            ended: ends the playing early.

        Raises:
            ValueError: the bag is damaged, or the detector refuses the first pass.
        """
        ended = ended or threading.Event()
        published: queue.SimpleQueue[Publication] = queue.SimpleQueue()
        core = self.parts.core
        warm_up(core.detector, core.parameters.cameras)
        exclude_existing_from_collection()
        live = LiveNode(self.parts, published.put, clock=self.now_us)
        self._started = time.monotonic()
        live.start()
        try:
            for raw in self.bag.messages(self._topics):
                due = self._started + (raw.time_ns // 1000 - self._start_us) * 1e-6 / self.rate
                yield from _until(due, published, ended)
                if ended.is_set() or live.has_ended:
                    break
                self._deliver(live, raw)
            last = time.monotonic() + _LAST_STEP_S
            while live.is_busy and not ended.is_set() and time.monotonic() < last:
                yield from _until(time.monotonic() + _POLL_S, published, ended)
        finally:
            live.stop()
        while not published.empty():
            yield published.get()
        if live.failure is not None:
            raise live.failure

    def _deliver(self, live: LiveNode, raw: RawMessage) -> None:
        try:
            message = self.bag.decode(raw)
        except ValueError as error:
            live.deliver_undecodable(raw.topic, str(error))
            return
        if raw.topic == CLOCK_TOPIC:
            live.deliver_clock(message)
        else:
            live.deliver(self._by_topic[raw.topic], message)


def _until(
    due: float, published: queue.SimpleQueue[Publication], ended: threading.Event
) -> Iterator[Publication]:
    """Yield what is published until a time."""
    while not ended.is_set():
        left = due - time.monotonic()
        if left <= 0:
            return
        try:
            yield published.get(timeout=left)
        except queue.Empty:
            return
