"""Bags for tests of the node: a handmade drive at 10 Hz, and copies with damaged messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bevstack.export.messages.bag import Publication, write_bag
from bevstack.export.messages.bag_reader import BagReader
from bevstack.export.messages.store import MessageStore, open_store
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.replay import BagReplay, NodeParts
from bevstack.runtime.ros.wiring import make_node
from bevstack.runtime.stream_protocol import FrameDetector
from bevstack.types import Detections
from tests.export.bags import xyz, yaw_of

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


def assert_equal_boxes(message: Any, expected: Detections) -> None:
    """Compare a message of detections with the boxes of offline prediction of the same pixels."""
    assert len(message.detections) == len(expected) > 0
    for row, found in enumerate(message.detections):
        # 1e-5: the same pixels, and poses that differ by rounding alone
        center = expected.boxes.center[row].numpy()
        assert xyz(found.bbox.center.position) == pytest.approx(center, abs=1e-5)
        assert xyz(found.bbox.size) == pytest.approx(expected.boxes.size[row].numpy(), abs=1e-5)
        score = float(expected.scores[row])
        assert found.results[0].hypothesis.score == pytest.approx(score, abs=1e-5)
        turned = yaw_of(found.bbox.center.orientation) - float(expected.boxes.yaw[row])
        assert abs(np.remainder(turned + np.pi, 2 * np.pi) - np.pi) < 1e-5
