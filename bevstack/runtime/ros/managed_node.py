"""The node on topics of ROS, with the states of a managed node."""

from __future__ import annotations

import threading
from collections.abc import Callable

from bevstack.export.messages.bag import Publication
from bevstack.export.messages.status import make_transition_event
from bevstack.runtime.node.lifecycle import Lifecycle, State, Transition
from bevstack.runtime.node.warm_up import exclude_existing_from_collection, warm_up
from bevstack.runtime.ros.live import LiveNode, wall_clock_us
from bevstack.runtime.ros.publishing import DIAGNOSTICS_TOPIC
from bevstack.runtime.ros.quality import Quality
from bevstack.runtime.ros.replay import NodeParts
from bevstack.runtime.ros.subscriptions import CLOCK_TOPIC, Subscription, subscriptions
from bevstack.runtime.ros.transport import Transport

_CLOCK_TYPE = "rosgraph_msgs/msg/Clock"
_CLOCK_QUALITY = Quality(depth=1, reliable=False)


class ManagedNode:
    """A live node whose messages come and go on topics.

    Args:
        parts: the node.
        transport: the topics.
    """

    def __init__(self, parts: NodeParts, transport: Transport) -> None:
        self.live = LiveNode(parts, transport.publish, state=State.UNCONFIGURED)
        self.lifecycle = Lifecycle(
            {
                "configure": self._configure,
                "activate": self._activate,
                "deactivate": self._deactivate,
                "cleanup": self._clean_up,
                "shutdown": self._shut_down,
            },
            self._announce,
        )
        own = transport.manage(self.lifecycle)
        self._change = own or self.lifecycle.change
        self._announces = own is None
        self._is_started = False
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
            change = self._change(label)
            if change.reason:
                raise ValueError(change.reason)

    def run_until(self, ended: threading.Event) -> None:
        """Wait for an event, or for a fault of the program, which is raised again; then stop."""
        while not ended.wait(0.1) and not self.live.has_ended and not self._transport.has_ended:
            pass
        if self.lifecycle.state is not State.FINALIZED:
            self._change("shutdown")
        self._transport.close()
        if self.live.failure is not None:
            raise self.live.failure

    def _configure(self) -> None:
        if not self._is_started:
            core = self.live.parts.core
            warm_up(core.detector, core.parameters.cameras)
            exclude_existing_from_collection()
            self._transport.start()
            self.live.start()
            self._is_started = True
        self.live.state = State.INACTIVE

    def _activate(self) -> None:
        self.live.state = State.ACTIVE

    def _deactivate(self) -> None:
        self.live.state = State.INACTIVE

    def _clean_up(self) -> None:
        """Publish nothing but diagnostics; weights and subscriptions stay for another start."""
        self.live.state = State.UNCONFIGURED

    def _shut_down(self) -> None:
        self.live.stop()

    def _announce(self, transition: Transition) -> None:
        """Publish a transition, with the time of the system.

        ROS 1 has no message for it, and rclpy publishes it itself.
        """
        if self._store.is_ros1 or not self._announces:
            return
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
