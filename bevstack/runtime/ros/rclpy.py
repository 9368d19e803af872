"""Topics of ROS 2 through the rclpy of an installation of it, with its middleware and tools.

Messages come and go as bytes: rclpy gives serialised messages to subscriptions with ``raw=True``,
and publishes bytes as they are. They are plain CDR, as in bags. So the classes of an installation
only choose the types of topics, and images are not converted.

Written against the published interface of rclpy in Humble and Jazzy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from bevstack.export.messages.bag import LATCHED_TOPICS, Publication
from bevstack.export.messages.store import MessageStore
from bevstack.runtime.node.lifecycle import Change, Lifecycle
from bevstack.runtime.node.parameters import Parameters
from bevstack.runtime.ros.quality import RESULTS, Quality
from bevstack.runtime.ros.rclpy_messages import import_class
from bevstack.runtime.ros.rclpy_node import make_managed_node, manage
from bevstack.runtime.ros.transport import Receive

_FLUSH_S = 0.1  # the middleware sends what was published last
_STOP_S = 0.5  # of the executor's running callback


class RclpyTransport:
    """Managed node of ROS 2 that publishes and subscribes topics.

    Domain, discovery and middleware are those of the installation, by its environment variables,
    such as ROS_DOMAIN_ID.

    Args:
        store: types of the messages, of a distribution of ROS 2.
        parameters: of the node, which are declared to ROS 2; "node_name" is its name.

    Raises:
        ModuleNotFoundError: rclpy cannot be imported.
        ValueError: the store is of ROS 1.
    """

    def __init__(self, store: MessageStore, parameters: Parameters) -> None:
        self._rclpy = _import_rclpy()
        if store.is_ros1:
            raise ValueError(f"distro must be one of ROS 2 for rclpy; got {store.distro!r}")
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

        self.store = store
        self.left_out: dict[str, str] = {}  # published topic -> why there is no publisher
        self._context = Context()
        # The command has its own arguments and ends at signals itself.
        self._rclpy.init(
            args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO
        )
        self._node = make_managed_node(parameters["node_name"], self._context, parameters)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._publishers: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def has_ended(self) -> bool:
        """Return True once another part of the program has shut rclpy down, or a fault ended it."""
        failed = self._failure is not None or self._node.failure is not None
        return failed or not self._context.ok()

    def manage(self, lifecycle: Lifecycle) -> Callable[[str], Change]:
        """Return the function that runs a transition; rclpy publishes it and offers services."""
        return manage(self._node, lifecycle)

    def subscribe(self, topic: str, type_name: str, quality: Quality, receive: Receive) -> None:
        """Give the bytes of each message of a topic to a function, once ``start`` is called.

        Raises:
            ModuleNotFoundError: the type's package is not installed.
            ValueError: the installed type has other fields.
        """
        kind = import_class(self.store, type_name)
        self._node.create_subscription(
            kind, topic, lambda data: receive(bytes(data)), _profile(quality), raw=True
        )

    def start(self) -> None:
        """Start the thread that receives, and that answers services."""
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def advertise(self, topic: str, type_name: str, quality: Quality = RESULTS) -> None:
        """Create the publisher of a topic before its first message, so that readers find it.

        A topic whose type is not installed, or has other fields, is left out: ``left_out`` and the
        node's log give the reason.
        """
        with self._lock:
            if topic in self._publishers or topic in self.left_out or self._is_closed:
                return
            try:
                kind = import_class(self.store, type_name)
            except (ModuleNotFoundError, ValueError) as error:
                self.left_out[topic] = str(error)
                self._node.get_logger().warning(f"{topic} is not published: {error}")
                return
            self._publishers[topic] = self._node.create_publisher(kind, topic, _profile(quality))

    def publish(self, publication: Publication) -> None:
        """Publish a message."""
        topic, message = publication.topic, publication.message
        latched = Quality(depth=1, reliable=True, latched=True)
        self.advertise(topic, message.__msgtype__, latched if topic in LATCHED_TOPICS else RESULTS)
        with self._lock:
            publisher = self._publishers.get(topic)  # None if left out, and after ``close``
            if publisher is not None and self._context.ok():
                publisher.publish(self.store.to_bytes(message))

    def close(self) -> None:
        """Stop receiving, and take the node from the network."""
        self._executor.shutdown(timeout_sec=_STOP_S)
        if self._thread is not None:
            self._thread.join(_STOP_S)
        if self._context.ok():
            time.sleep(_FLUSH_S)
        with self._lock:
            self._is_closed = True
            self._publishers.clear()
            self._node.destroy_node()
        self._rclpy.try_shutdown(context=self._context)
        failure = self._failure or self._node.failure
        if failure is not None:
            raise failure

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        try:
            self._executor.spin()
        except ExternalShutdownException:
            return  # ``has_ended`` shows it
        except BaseException as error:
            self._failure = error
            raise


def _import_rclpy() -> Any:
    try:
        import rclpy
    except ImportError as error:
        raise ModuleNotFoundError(
            f"rclpy must be importable; got {error}: install ROS 2, source its setup file, and use "
            "a Python of its version, see docs/node.md"
        ) from None
    return rclpy


def _profile(quality: Quality) -> Any:
    from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=quality.depth,
        reliability=(
            ReliabilityPolicy.RELIABLE if quality.reliable else ReliabilityPolicy.BEST_EFFORT
        ),
        durability=(
            DurabilityPolicy.TRANSIENT_LOCAL if quality.latched else DurabilityPolicy.VOLATILE
        ),
    )
