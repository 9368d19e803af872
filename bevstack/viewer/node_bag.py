"""Moments of bags: what a node has published, and the drive that it took."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bevstack.export.messages.bag_reader import BagReader, RawMessage
from bevstack.export.messages.store import open_store
from bevstack.runtime.node.parameters import Parameters
from bevstack.viewer.growing import GrowingDrive
from bevstack.viewer.node_moments import NodeMoments


class BagMoments:
    """A thread that reads bags and puts their moments into a drive.

    Args:
        paths: bags of ROS 2; their messages are taken in the order of their times.
        parameters: of the node: names of its cameras, topics and frames.
        drive: takes the moments.

    Raises:
        FileNotFoundError: a bag does not exist.
        ModuleNotFoundError: rosbags is not installed (the extra ``ros``).
        ValueError: a file is no bag, or none holds boxes of the node.
    """

    def __init__(
        self, paths: Sequence[Path], parameters: Parameters, *, drive: GrowingDrive
    ) -> None:
        store = open_store()
        self._drive = drive
        self._moments = NodeMoments(parameters, store, drive=drive, in_order=True)
        self._topics = {topic for topic, _, _ in self._moments.topics()}
        self._open = ExitStack()
        self._bags = [self._open.enter_context(BagReader(path, store)) for path in paths]
        boxes = self._moments.result_topic("detections")
        if not any(boxes in bag.topics for bag in self._bags):
            self._open.close()
            raise ValueError(
                f"bags must hold a node's results on {boxes}; got none in "
                f"{', '.join(map(str, paths))}: write them with `bevstack node --bag DRIVE.mcap "
                "--out RESULTS.mcap`, and give both"
            )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, name="bags", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the bags."""
        self._ended.set()
        self._thread.join(1.0)
        self._open.close()

    def _messages(self, place: int) -> Iterator[tuple[int, int, RawMessage]]:
        """Yield the messages of a bag with their times and the place of the bag."""
        bag = self._bags[place]
        for raw in bag.messages(self._topics & bag.topics.keys()):
            yield raw.time_ns, place, raw

    def _read(self) -> None:
        failure: Exception | None = None
        try:
            sources = [self._messages(place) for place in range(len(self._bags))]
            for _, place, raw in heapq.merge(*sources, key=lambda found: found[:2]):
                if self._ended.is_set():
                    return
                self._moments.take(raw.topic, self._bags[place].decode(raw))
            self._moments.settle(everything=True)
        except ValueError as error:
            failure = error
        self._drive.end(failure)
