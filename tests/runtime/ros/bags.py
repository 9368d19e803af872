"""Bags for tests of the node: a handmade drive at 10 Hz, and copies with damaged messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bevstack.export.messages.bag import Publication, write_bag
from bevstack.export.messages.bag_reader import BagReader
from bevstack.export.messages.store import MessageStore, open_store
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.replay import BagReplay, NodeParts
from bevstack.runtime.ros.wiring import make_node
from bevstack.runtime.stream_protocol import FrameDetector

Change = Callable[[str, int, Any], list[tuple[int, Any]]]  # topic, time, message -> messages


def copy_bag(source: Path, target: Path, change: Change, store: MessageStore | None = None) -> int:
    """Write a bag again with changed messages, in the order of their new times."""
    store = store or open_store()
    found: list[Publication] = []
    with BagReader(source, store) as bag:
        for raw in bag.messages():
            for time_us, message in change(raw.topic, raw.time_ns // 1000, bag.decode(raw)):
                found.append(Publication(raw.topic, time_us, message))
    found.sort(key=lambda publication: publication.timestamp_us)
    return write_bag(target, found, store)


def replay(
    bag: Path,
    detector: FrameDetector,
    settings: dict[str, object] | None = None,
    *,
    store: MessageStore | None = None,
) -> tuple[NodeParts, list[Publication]]:
    """Replay a bag; return the node and all that it published."""
    store = store or open_store()
    parts = make_node(detector, Parameters(settings), store, model="model", times=False)
    with BagReader(bag, store) as reader:
        return parts, list(BagReplay(parts, reader).publications())


def on_topic(publications: list[Publication], name: str) -> Iterator[Any]:
    """Yield the messages of a topic below the node's name, or of an absolute one."""
    topic = name if name.startswith("/") else f"/bevstack/{name}"
    return (p.message for p in publications if p.topic == topic)
