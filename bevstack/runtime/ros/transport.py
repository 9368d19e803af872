"""The ways of topics into a node and out of it, which all transports share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bevstack.export.messages.bag import Publication
from bevstack.export.messages.store import MessageStore
from bevstack.runtime.node.lifecycle import Change, Lifecycle
from bevstack.runtime.ros.quality import RESULTS, Quality

Receive = Callable[[bytes], None]  # the bytes of a message, as they stand in a bag


class Transport(Protocol):
    """Publisher and subscriber of topics; messages may come and go on any thread."""

    @property
    def store(self) -> MessageStore:
        """Return the types of the messages."""

    @property
    def has_ended(self) -> bool:
        """Return True once the topics are gone for another reason than ``close``."""

    def manage(self, lifecycle: Lifecycle) -> Callable[[str], Change] | None:
        """Return the function that runs and publishes transitions; None: the node does it."""

    def subscribe(self, topic: str, type_name: str, quality: Quality, receive: Receive) -> None:
        """Give the bytes of each message of a topic to a function, once ``start`` is called."""

    def start(self) -> None:
        """Start to receive."""

    def advertise(self, topic: str, type_name: str, quality: Quality = RESULTS) -> None:
        """Create the publisher of a topic before its first message, so that readers find it."""

    def publish(self, publication: Publication) -> None:
        """Publish a message."""

    def close(self) -> None:
        """Stop receiving, and leave the topics."""
