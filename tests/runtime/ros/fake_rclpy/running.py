"""Context, executor and start of the fake rclpy."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.runtime.ros.fake_rclpy.network import Network

NETWORKS: list[Network] = []  # the installed one


class SignalHandlerOptions(Enum):
    """Handlers of signals that ``init`` installs."""

    NO = 0
    SIGINT = 1
    SIGTERM = 2
    ALL = 3


class ExternalShutdownException(Exception):
    """The context has been shut down."""


class Context:
    """Context of nodes."""

    def __init__(self) -> None:
        self._state = "new"

    def init(self, args: list[str] | None) -> None:
        """Start."""
        if self._state != "new":
            raise RuntimeError("Context.init() must only be called once")
        assert args == []  # else the arguments of the process would be read
        self._state = "ok"

    def ok(self) -> bool:
        """Return True between start and shut-down."""
        return self._state == "ok"

    def try_shutdown(self) -> None:
        """Shut down."""
        self._state = "shut down"


def init(
    *,
    args: list[str] | None = None,
    context: Context | None = None,
    domain_id: int | None = None,
    signal_handler_options: SignalHandlerOptions | None = None,
) -> None:
    """Start a context. The default one, and its signal handlers, are not used by the node."""
    assert context is not None and domain_id is None
    assert signal_handler_options is SignalHandlerOptions.NO
    context.init(args)


def try_shutdown(*, context: Context | None = None) -> None:
    """Shut a context down."""
    assert context is not None
    context.try_shutdown()


class SingleThreadedExecutor:
    """Executor of the callbacks of nodes, one after the other."""

    def __init__(self, *, context: Context | None = None) -> None:
        assert context is not None
        self._context = context
        self._nodes: list[Any] = []
        self._ended = threading.Event()
        self._idle = threading.Lock()

    def add_node(self, node: Any) -> bool:
        """Add a node."""
        if node in self._nodes:
            return False
        assert node.context is self._context
        self._nodes.append(node)
        return True

    def spin(self) -> None:
        """Run callbacks until the shut-down."""
        while self._context.ok() and not self._ended.is_set():
            for node in self._nodes:
                self._run(node.waiting)
        if not self._ended.is_set():
            raise ExternalShutdownException

    def _run(self, waiting: queue.SimpleQueue[Callable[[], None]]) -> None:
        try:
            callback = waiting.get(timeout=0.01)
        except queue.Empty:
            return
        with self._idle:
            if not self._ended.is_set():
                callback()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """End ``spin``, and wait for a running callback."""
        self._ended.set()
        finished = self._idle.acquire(timeout=-1 if timeout_sec is None else timeout_sec)
        if finished:
            self._idle.release()
        return finished


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a condition; shared processors may take seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
