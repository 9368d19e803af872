"""Replay of a bag through the node, message by message, on the bag's own time.

Every window is stepped, and times of processing are left out: the same bag gives the same bytes at
any speed and on any day.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bevstack.export.messages.bag import Publication
from bevstack.export.messages.bag_reader import BagReader, RawMessage
from bevstack.runtime.node.core import NodeCore
from bevstack.runtime.node.diagnostics import Diagnostician
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.node.records import AHEAD_US, BACK_US
from bevstack.runtime.node.windows import Window
from bevstack.runtime.ros.publishing import ResultPublisher
from bevstack.runtime.ros.subscriptions import (
    CLOCK_TOPIC,
    TF_STATIC_TOPIC,
    Subscription,
    clock_us,
    subscriptions,
)


@dataclass(frozen=True)
class NodeParts:
    """The node with the authors of its messages."""

    core: NodeCore
    publisher: ResultPublisher
    diagnostician: Diagnostician

    def step(
        self, window: Window, now_us: int, finished_us: Callable[[], int] | None = None
    ) -> Iterator[Publication]:
        """Run a window and yield the messages of its result.

        Args:
            window: the window.
            now_us: on the node's clock.
            finished_us: returns the time after the step. None: a step takes no time.
        """
        result = self.core.step(window, now_us)
        now_us = now_us if finished_us is None else finished_us()
        if result is None:
            yield from self.publisher.empty(window.last_us, now_us)
        elif not self.core.is_too_old(result, now_us):
            try:
                yield from list(self.publisher.results(result, now_us))
            except ValueError as error:  # such as a box that is not finite
                self.core.add_unpublishable(str(error), now_us)

    def diagnostics(self, now_us: int, state: str = "active") -> Publication:
        """Return the diagnostics at a time."""
        return self.publisher.diagnostics(self.diagnostician.statuses(now_us, state), now_us)


def check_topics(bag: BagReader, wanted: Sequence[Subscription]) -> None:
    """Check that a bag holds images for the node, and topics of the right types.

    Raises:
        ValueError: it does not; the message lists the bag's topics of images.
    """
    topics = bag.topics
    for subscription in wanted:
        found = topics.get(subscription.topic)
        if found is not None and found != subscription.type_name:
            raise ValueError(
                f"topic {subscription.topic} must be {subscription.type_name}; got {found} in "
                f"{bag.path}: set image_transport or image_topics"
            )
    images = {s.topic for s in wanted if s.type_name.endswith("Image")}
    if not images & topics.keys():
        held = sorted(topic for topic, name in topics.items() if name.endswith("Image"))
        raise ValueError(
            f"{bag.path} must hold one of the topics {', '.join(sorted(images))}; got images on "
            f"{', '.join(held) or 'no topic'}: set cameras, image_topics and image_transport"
        )


def clocked_topics(
    bag: BagReader, parameters: Parameters, topics: Collection[str]
) -> frozenset[str]:
    """Return topics of the node, with /clock for simulated time.

    Raises:
        ValueError: the parameters want simulated time, and the bag has none.
    """
    if not parameters["use_sim_time"]:
        return frozenset(topics)
    if CLOCK_TOPIC not in bag.topics:
        raise ValueError(
            f"{bag.path} must hold {CLOCK_TOPIC} for use_sim_time; got none: leave use_sim_time "
            "out, the bag's own times serve as clock"
        )
    return frozenset((*topics, CLOCK_TOPIC))


class BagReplay:
    """Replay of one bag.

    Args:
        parts: the node.
        bag: the open bag.

    Raises:
        ValueError: the bag has no topic that the node takes images from, or topics of other types.
    """

    def __init__(self, parts: NodeParts, bag: BagReader) -> None:
        self.parts = parts
        self.bag = bag
        wanted = subscriptions(parts.core.parameters)
        check_topics(bag, wanted)
        self._by_topic: Mapping[str, Subscription] = {s.topic: s for s in wanted}
        self._simulated = bool(parts.core.parameters["use_sim_time"])
        self._topics = clocked_topics(bag, parts.core.parameters, self._by_topic)
        self._period_us = round(1e6 / parts.core.parameters["diagnostics_rate_hz"])
        self._next_status_us = 0
        self._now_us: int | None = None

    def publications(self) -> Iterator[Publication]:
        """Yield all that the node publishes, in the order of the bag's time.

        Raises:
            ValueError: the bag is damaged.
        """
        core = self.parts.core
        now_us: int | None = None
        for raw in self.bag.messages(self._topics):
            now_us = self._time_of(raw, now_us)
            subscription = self._by_topic.get(raw.topic)
            if now_us is None:  # simulated time has not started: only fixed frames are taken
                if subscription is not None and raw.topic == TF_STATIC_TOPIC:
                    self._deliver(raw, subscription, 0)
                continue
            yield from self._until(now_us)
            core.advance(now_us)
            if subscription is not None:
                self._deliver(raw, subscription, now_us)
                for window in core.close_due(now_us):
                    yield from self.parts.step(window, now_us)
        if now_us is not None:
            for window in core.close_all():
                yield from self.parts.step(window, now_us)
            yield self.parts.diagnostics(now_us)

    def _time_of(self, raw: RawMessage, before_us: int | None) -> int | None:
        if not self._simulated:
            return raw.time_ns // 1000
        if raw.topic != CLOCK_TOPIC:
            return before_us
        try:
            return clock_us(self.bag.decode(raw))
        except ValueError as error:
            if before_us is not None:
                self.parts.core.add_undecodable(raw.topic, str(error), before_us)
            return before_us

    def _deliver(self, raw: RawMessage, subscription: Subscription, now_us: int) -> None:
        core = self.parts.core
        try:
            subscription.deliver(core, self.bag.decode(raw), now_us)
        except ValueError as error:
            core.add_undecodable(raw.topic, str(error), now_us)

    def _until(self, now_us: int) -> Iterator[Publication]:
        """Yield what happens before a time: windows whose time is over, and diagnostics."""
        core, before_us = self.parts.core, self._now_us
        self._now_us = now_us
        if before_us is None or not -BACK_US <= now_us - before_us <= AHEAD_US:
            self._next_status_us = now_us + self._period_us  # another drive starts
            return
        while True:
            deadline_us = core.next_deadline_us()
            if deadline_us is not None and deadline_us <= min(now_us, self._next_status_us):
                for window in core.close_due(deadline_us):
                    yield from self.parts.step(window, deadline_us)
            elif self._next_status_us <= now_us:
                core.advance(self._next_status_us)
                yield self.parts.diagnostics(self._next_status_us)
                self._next_status_us += self._period_us
            else:
                return
