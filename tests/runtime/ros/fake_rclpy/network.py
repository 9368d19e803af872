"""Topics and services within the process, seen by the tests as another node would see them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bevstack.export.messages.store import MessageStore
from tests.runtime.ros.fake_rclpy.messages import Message, deserialize, serialize
from tests.runtime.ros.fake_rclpy.values import DurabilityPolicy, Parameter, QoSProfile

if TYPE_CHECKING:
    from tests.runtime.ros.fake_rclpy.node import LifecycleNode


@dataclass
class Endpoint:
    """Publisher or subscription of a topic."""

    topic: str
    kind: type[Message]
    quality: QoSProfile
    deliver: Callable[[bytes], None] | None = None  # of a subscription
    kept: list[bytes] = field(default_factory=list)  # of a latched publisher


class Network:
    """Publishers, subscriptions and nodes of the process."""

    def __init__(self, store: MessageStore, packages: dict[str, dict[str, Any]]) -> None:
        self.store = store
        self.packages = packages
        self.publishers: list[Endpoint] = []
        self.subscriptions: list[Endpoint] = []
        self.nodes: dict[str, LifecycleNode] = {}
        self._lock = threading.Lock()

    def add_publisher(self, endpoint: Endpoint) -> None:
        """Open a publisher."""
        self._check(endpoint)
        with self._lock:
            self.publishers.append(endpoint)

    def add_subscription(self, endpoint: Endpoint) -> None:
        """Open a subscription; latched publishers send what they have kept."""
        self._check(endpoint)
        with self._lock:
            self.subscriptions.append(endpoint)
            offered = [p for p in self.publishers if p.topic == endpoint.topic]
        for publisher in offered:
            if endpoint.quality.durability is DurabilityPolicy.TRANSIENT_LOCAL:
                for data in publisher.kept:
                    self._send(publisher, endpoint, data)

    def _check(self, endpoint: Endpoint) -> None:
        known = [e for e in (*self.publishers, *self.subscriptions) if e.topic == endpoint.topic]
        assert all(e.kind is endpoint.kind for e in known), endpoint.topic

    def send(self, publisher: Endpoint, data: bytes) -> None:
        """Send the bytes of a message to all subscriptions that match."""
        with self._lock:
            assert publisher in self.publishers, "the publisher was destroyed"
            takers = [s for s in self.subscriptions if s.topic == publisher.topic]
        if publisher.quality.durability is DurabilityPolicy.TRANSIENT_LOCAL:
            publisher.kept = [*publisher.kept, data][-publisher.quality.depth :]
        for taker in takers:
            self._send(publisher, taker, data)

    @staticmethod
    def _send(publisher: Endpoint, taker: Endpoint, data: bytes) -> None:
        if taker.quality.takes(publisher.quality):
            assert taker.deliver is not None
            taker.deliver(data)

    def remove(self, endpoints: list[Endpoint]) -> None:
        """Close publishers and subscriptions."""
        with self._lock:
            self.publishers = [e for e in self.publishers if e not in endpoints]
            self.subscriptions = [e for e in self.subscriptions if e not in endpoints]

    # What another node does.

    def message(self, name: str, **fields: Any) -> Any:
        """Return a message of a type such as "std_msgs/String"."""
        package, kind = name.split("/")
        return self.packages[package][kind](**fields)

    def publish(self, topic: str, message: Message, **quality: Any) -> None:
        """Publish a message of another node; by default reliable and volatile."""
        found = [p for p in self.publishers if p.topic == topic]
        if not found:
            profile = QoSProfile(**{"depth": 10, **quality})
            found = [Endpoint(topic, type(message), profile)]
            self.add_publisher(found[0])
        self.send(found[0], serialize(self.store, message))

    def listen(self, topic: str, name: str, **quality: Any) -> list[Any]:
        """Return a list to which the messages of a topic are added, as typed classes."""
        package, kind = name.split("/")
        made = self.packages[package][kind]
        received: list[Any] = []
        endpoint = Endpoint(topic, made, QoSProfile(**{"depth": 10, **quality}))
        endpoint.deliver = lambda data: received.append(deserialize(self.store, data, made))
        self.add_subscription(endpoint)
        return received

    def change_state(self, node: str, label: str) -> bool:
        """Call NODE/change_state; return its success."""
        return bool(self.nodes[node].call(lambda own: own.service_change_state(label)))

    def get_state(self, node: str) -> str:
        """Return the label of the state of a node's own machine."""
        return self.nodes[node].state_machine_label

    def set_parameters(self, node: str, **values: Any) -> list[Any]:
        """Call NODE/set_parameters_atomically; return its results."""
        given = [Parameter(name, value=value) for name, value in values.items()]
        found: list[Any] = self.nodes[node].call(lambda own: own.service_set_parameters(given))
        return found
