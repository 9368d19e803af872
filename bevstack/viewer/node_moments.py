"""Moments of a running node: its results, and the images, calibrations and poses that it takes.

A node publishes the parts of a result one after the other, all with the stamp of the reference
camera. A moment is closed when the parts of the last one are there, or after a short time.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from bevstack.export.messages.store import MessageStore
from bevstack.render import Surroundings
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.publishing import DIAGNOSTICS_TOPIC, TOPICS
from bevstack.runtime.ros.quality import Quality
from bevstack.runtime.ros.subscriptions import subscriptions
from bevstack.runtime.ros.transport import Transport
from bevstack.viewer.growing import GrowingDrive
from bevstack.viewer.moment import BoxArrays, Floats, Moment, Predicted
from bevstack.viewer.node_inputs import NodeInputs
from bevstack.viewer.node_results import (
    TrackNumbers,
    cues_from,
    detected_boxes,
    notes_from,
    result_time_us,
    sectors_from,
    tracked_boxes,
)
from bevstack.viewer.own_paths import StreamPaths
from bevstack.vocabulary import DETECTION_CLASSES

PARTS = ("detections", "objects", "tracks", "markers", "sectors", "traffic_cues")
_RESULT_QUALITY = Quality(depth=20, reliable=True)
_DIAGNOSTICS_TYPE = "diagnostic_msgs/msg/DiagnosticArray"
_SETTLED_S = 0.3  # after the first part of a result, the missing ones are not waited for
_POLL_S = 0.05
_BACK_US = 500_000  # time that goes back by more starts another drive
_MOST_OPEN = 50  # results without their boxes


class NodeMoments:
    """Author of the moments of a node, which takes its messages on any thread.

    Args:
        parameters: of the node: names of its cameras, topics and frames.
        store: types of the messages.
        drive: takes the moments.
        clock: seconds.
        in_order: messages come from a bag: the parts of a result come before those of the next.
    """

    def __init__(
        self,
        parameters: Parameters,
        store: MessageStore,
        *,
        drive: GrowingDrive,
        clock: Callable[[], float] = time.monotonic,
        in_order: bool = False,
    ) -> None:
        self._store, self._drive, self._clock = store, drive, clock
        self._in_order = in_order
        self._name = str(parameters["node_name"])
        self._inputs = NodeInputs(parameters)
        self._subscriptions = {s.topic: s for s in subscriptions(parameters)}
        self._paths, self._numbers = StreamPaths(self._name), TrackNumbers()
        self._open: dict[int, dict[str, Any]] = defaultdict(dict)  # parts by stamp
        self._since: dict[int, float] = {}  # when the first part came
        self._expected: frozenset[str] = frozenset()  # parts of the last moment
        self._last_us = 0
        self._last_came: float | None = None
        self._notes: tuple[str, ...] = ()  # of the last diagnostics
        self._fault = ""  # of the last message that was refused
        self._lock = threading.Lock()

    def topics(self) -> list[tuple[str, str, Quality]]:
        """Return the topics with their types and qualities."""
        own = [(self.result_topic(name), TOPICS[name], _RESULT_QUALITY) for name in PARTS]
        own.append((DIAGNOSTICS_TOPIC, _DIAGNOSTICS_TYPE, _RESULT_QUALITY))
        taken = [(s.topic, s.type_name, s.quality) for s in self._subscriptions.values()]
        return own + taken

    def result_topic(self, name: str) -> str:
        """Return a topic below the node's name."""
        return f"/{self._name}/{name}"

    def receive(self, topic: str, type_name: str, data: bytes) -> None:
        """Take the bytes of a message; a wrong one is named in the notes."""
        try:
            self.take(topic, self._store.from_bytes(data, type_name))
        except ValueError as error:
            self._fault = f"{topic}: {error}"

    def take(self, topic: str, message: Any) -> None:
        """Take a message; a wrong one is named in the notes."""
        try:
            with self._lock:
                self._take(topic, message)
        except ValueError as error:
            self._fault = f"{topic}: {error}"

    def settle(self, *, everything: bool = False) -> None:
        """Close the moments that are whole, or whose missing parts have had their time.

        Args:
            everything: close all that have boxes, at the end of the messages.
        """
        with self._lock:
            now = self._clock()
            for stamp in sorted(self._open):
                parts = self._open[stamp]
                is_old = now - self._since[stamp] >= _SETTLED_S
                whole = bool(self._expected) and self._expected <= parts.keys()
                if "detections" in parts and (whole or is_old or everything):
                    self._close(stamp)
            for stamp in sorted(self._open)[:-_MOST_OPEN]:
                self._drop(stamp)
            self._report(now)

    def _take(self, topic: str, message: Any) -> None:
        if topic == DIAGNOSTICS_TOPIC:
            self._notes = notes_from(message)
        elif topic in self._subscriptions:
            self._subscriptions[topic].deliver(self._inputs, message, 0)
        else:
            self._add_part(topic.rpartition("/")[2], message)

    def _add_part(self, name: str, message: Any) -> None:
        stamp = result_time_us(message)
        if stamp < self._last_us - _BACK_US:
            self._last_us = 0  # another drive
            self._open.clear()
            self._since.clear()
        if stamp <= self._last_us:
            return  # its moment is closed
        self._since.setdefault(stamp, self._clock())
        self._open[stamp][name] = message
        for earlier in sorted(s for s in self._open if self._in_order and s < stamp):
            if "detections" in self._open.get(earlier, ()):
                self._close(earlier)

    def _drop(self, stamp: int) -> dict[str, Any]:
        del self._since[stamp]
        return self._open.pop(stamp)

    def _close(self, stamp: int) -> None:
        parts = self._drop(stamp)
        try:
            moment = self._moment(stamp, parts)
        except ValueError as error:
            self._fault = f"result at {stamp}: {error}"
            return
        self._expected, self._last_us = frozenset(parts), stamp
        self._last_came = self._clock()
        self._drive.add(moment)
        for earlier in [other for other in self._open if other < stamp]:
            self._drop(earlier)

    def _moment(self, stamp: int, parts: dict[str, Any]) -> Moment:
        boxes, score = self._boxes(parts)
        pose = self._inputs.pose(stamp)
        self._paths.add(stamp, boxes, pose)
        faults = tuple(f"{name}: {fault}" for name, fault in self._inputs.faults.items())
        return Moment(
            scene=self._name,
            index=self._drive.count(self._name),
            timestamp_us=stamp,
            class_names=DETECTION_CLASSES,
            sample_token=str(stamp),
            world_from_ego=pose,
            predicted=(Predicted(name=self._name, boxes=boxes, score=score),),
            cameras=self._inputs.views(stamp, pose),
            surroundings=Surroundings(trail=self._paths.own_trail(pose)),
            traffic=cues_from(parts["traffic_cues"]) if "traffic_cues" in parts else None,
            sectors=sectors_from(parts["sectors"]) if "sectors" in parts else None,
            trails=self._paths.trails(boxes, pose),
            notes=(*self._notes, *faults, *((self._fault,) if self._fault else ())),
        )

    def _boxes(self, parts: dict[str, Any]) -> tuple[BoxArrays, Floats]:
        """Return tracks if the node tracks and their classes are known, else detections."""
        if {"tracks", "markers"} <= parts.keys():
            return tracked_boxes(parts["tracks"], parts["markers"], self._numbers)
        return detected_boxes(parts["detections"], parts.get("objects"))

    def _report(self, now: float) -> None:
        if self._last_came is None:
            return
        age_s = now - self._last_came
        silent = f", the last {age_s:.0f} s ago" if age_s >= 2 else ""
        count = self._drive.count(self._name)
        self._drive.report(f"{count} results of {self._name}{silent}")


class NodeListener:
    """Subscriptions of a running node's topics, and the thread that closes its moments.

    Args:
        moments: takes the messages.
        transport: the topics; it is closed by ``stop``.
    """

    def __init__(self, moments: NodeMoments, transport: Transport) -> None:
        self._moments, self._transport = moments, transport
        for topic, type_name, quality in moments.topics():
            transport.subscribe(topic, type_name, quality, self._receiver(topic, type_name))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._settle, name="node", daemon=True)

    def start(self) -> None:
        """Start to receive."""
        self._transport.start()
        self._thread.start()

    def stop(self) -> None:
        """Leave the topics."""
        self._ended.set()
        self._thread.join(1.0)
        self._transport.close()

    def _receiver(self, topic: str, type_name: str) -> Callable[[bytes], None]:
        return lambda data: self._moments.receive(topic, type_name, data)

    def _settle(self) -> None:
        while not self._ended.wait(_POLL_S):
            self._moments.settle()
