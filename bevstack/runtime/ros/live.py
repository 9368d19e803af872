"""The node with threads: steps, diagnostics and messages do not wait for one another.

The newest window is processed; earlier ones that wait are skipped and counted. Diagnostics come
from a timer of their own, so that they go on whatever happens to the cameras and the model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bevstack.export.messages.bag import Publication
from bevstack.export.messages.status import ERROR, Status
from bevstack.runtime.node.lifecycle import State
from bevstack.runtime.ros.replay import NodeParts
from bevstack.runtime.ros.subscriptions import TF_STATIC_TOPIC, Subscription, clock_us

_IDLE_S = 0.05  # longest wait of the thread of steps
_JOIN_S = 1.5  # of each thread at the end; a model that computes longer is left behind
Clock = Callable[[], int]


def wall_clock_us() -> int:
    """Return the system's time in microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass
class LiveNode:
    """A running node; ``start`` it, ``deliver`` messages from any thread, ``stop`` it.

    Args:
        parts: the node.
        publish: takes each message; it is called from several threads.
        clock: the node's time. With the parameter ``use_sim_time``, messages of /clock replace it.
        state: INACTIVE takes messages and publishes nothing but diagnostics.
    """

    parts: NodeParts
    publish: Callable[[Publication], None]
    clock: Clock = wall_clock_us
    state: State = State.ACTIVE
    failure: BaseException | None = None  # of a thread; a fault of the program
    _wake: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _simulated_us: int | None = None
    _is_stepping: bool = False

    def start(self) -> None:
        """Start the threads."""
        for work in (self._run_steps, self._run_diagnostics):
            thread = threading.Thread(target=self._guarded, args=(work,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Stop within 2 s; publish the diagnostics for the last time."""
        self._ended.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(_JOIN_S / len(self._threads))
        self.state = State.FINALIZED
        self._publish_diagnostics()

    @property
    def has_ended(self) -> bool:
        """Return True after ``stop``, or after a fault of the program."""
        return self._ended.is_set()

    @property
    def is_busy(self) -> bool:
        """Return True while a window waits or is computed.

        Simulated time may have ended: then nothing is waited for.
        """
        if self.has_ended:
            return False
        waits = not self._is_simulated and self.parts.core.next_deadline_us() is not None
        return waits or self._wake.is_set() or self._is_stepping

    def now_us(self) -> int | None:
        """Return the node's time; None if simulated time has not started."""
        return self._simulated_us if self._is_simulated else self.clock()

    def deliver(self, subscription: Subscription, message: Any) -> None:
        """Give a message to the node; a wrong one is recorded."""
        now_us = self.now_us()
        if now_us is None:
            if subscription.topic != TF_STATIC_TOPIC:
                return  # before the first time of /clock, only fixed frames are taken
            now_us = 0
        else:
            self.parts.core.advance(now_us)
        core = self.parts.core
        try:
            subscription.deliver(core, message, now_us)
        except ValueError as error:
            core.add_undecodable(subscription.topic, str(error), now_us)
        self._wake.set()

    def deliver_undecodable(self, topic: str, reason: str) -> None:
        """Record bytes that are no message."""
        self.parts.core.add_undecodable(topic, reason, self.now_us() or 0)

    def deliver_clock(self, message: Any) -> None:
        """Take a message of /clock."""
        try:
            self._simulated_us = clock_us(message)
        except ValueError as error:
            self.deliver_undecodable("/clock", str(error))
        self._wake.set()

    @property
    def _is_simulated(self) -> bool:
        return bool(self.parts.core.parameters["use_sim_time"])

    def _guarded(self, work: Callable[[], None]) -> None:
        """Run a thread; keep its error, which ``failure`` shows and diagnostics name."""
        try:
            work()
        except BaseException as error:
            self.failure = error
            self._ended.set()
            raise

    def _run_steps(self) -> None:
        core = self.parts.core
        while not self._ended.is_set():
            self._wake.wait(_IDLE_S)
            self._is_stepping = True  # before the wish to wake is taken back
            self._wake.clear()
            now_us = self.now_us()
            windows = [] if now_us is None else core.close_due(now_us)
            newest = len(windows) - 1 if self.state is State.ACTIVE else len(windows)
            for window in windows[:newest]:
                core.skip(window)
            for window in windows[newest:]:
                assert now_us is not None  # else there is no window
                for publication in self.parts.step(window, now_us, self._finished_us):
                    if self.state is State.ACTIVE:
                        self.publish(publication)
            self._is_stepping = False

    def _finished_us(self) -> int:
        now_us = self.now_us()
        assert now_us is not None  # simulated time has started before a step
        return now_us

    def _run_diagnostics(self) -> None:
        while not self._ended.wait(1 / self.parts.core.parameters["diagnostics_rate_hz"]):
            self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        now_us = self.now_us()
        now_us = self.clock() if now_us is None else now_us
        statuses = self.parts.diagnostician.statuses(now_us, self.state.label)
        if self.failure is not None:
            statuses.append(_failed(self.parts, self.failure))
        self.publish(self.parts.publisher.diagnostics(statuses, now_us))


def _failed(parts: NodeParts, failure: BaseException) -> Status:
    return Status(
        name=f"{parts.core.parameters['node_name']}: node",
        level=ERROR,
        message=f"a fault of the program has stopped the node: {type(failure).__name__}: {failure}",
        hardware_id=parts.diagnostician.model,
    )
