"""Topics of ROS 1, through the rospy of an installation of it, such as Debian's.

rospy carries bytes: rosbags turns messages into them, as for bags and DDS. So the node needs no
package of messages beside rospy, and vision_msgs, which Debian has not, is published too.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import Any

from bevstack.export.messages.bag import LATCHED_TOPICS, Publication
from bevstack.export.messages.store import MessageStore, full_name
from bevstack.runtime.node.lifecycle import Lifecycle
from bevstack.runtime.ros.quality import RESULTS, Quality
from bevstack.runtime.ros.transport import Receive

_QUEUE = 10  # messages that wait for a slow subscriber; rospy drops the oldest ones
# rospy reads at most this much of a connection at once; less delays images (its default is 64 KiB).
_BUFFER_BYTES = 1 << 24
_FLUSH_S = 0.2  # rospy's threads send what was published last


class RospyTransport:
    """Publisher and subscriber of ROS 1 topics. A process can have one.

    Without ROS_IP or ROS_HOSTNAME in the environment, rospy listens on every interface.

    Args:
        store: types of the messages, of ROS 1.
        name: name of the node, without a namespace.

    Raises:
        ModuleNotFoundError: rospy cannot be imported.
        ValueError: the store is of ROS 2, no master runs, or the name has a namespace.
    """

    def __init__(self, store: MessageStore, *, name: str) -> None:
        self._rospy = _import_rospy()
        if not store.is_ros1:
            raise ValueError(f"distro must be of ROS 1 for rospy; got {store.distro!r}")
        self.store = store
        _start_node(self._rospy, name)
        self._types: dict[str, Any] = {}
        self._publishers: dict[str, Any] = {}
        self._subscribers: list[Any] = []
        self._wanted: list[Callable[[], Any]] = []
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def has_ended(self) -> bool:
        """Return True once the master or `rosnode kill` has ended the node."""
        return bool(self._rospy.is_shutdown())

    @property
    def uses_simulated_time(self) -> bool:
        """Return the master's parameter /use_sim_time."""
        return bool(self._rospy.get_param("/use_sim_time", False))

    def manage(self, lifecycle: Lifecycle) -> None:
        """Return None: the node runs and publishes its transitions itself."""

    def subscribe(self, topic: str, type_name: str, quality: Quality, receive: Receive) -> None:
        """Give the bytes of each message of a topic to a function, once ``start`` is called."""

        def create() -> Any:
            return self._rospy.Subscriber(
                topic,
                self._type(type_name),
                lambda message: receive(_bytes_of(message)),
                queue_size=quality.depth,
                buff_size=_BUFFER_BYTES,
                tcp_nodelay=True,
            )

        self._wanted.append(create)

    def start(self) -> None:
        """Start to receive; rospy has a thread for each publisher."""
        self._subscribers += [create() for create in self._wanted]
        self._wanted.clear()

    def advertise(self, topic: str, type_name: str, quality: Quality = RESULTS) -> None:
        """Create the publisher of a topic before its first message, so that readers find it."""
        with self._lock:
            if topic not in self._publishers and not self._is_closed:
                self._publishers[topic] = self._rospy.Publisher(
                    topic,
                    self._type(type_name),
                    latch=quality.latched,
                    queue_size=max(quality.depth, _QUEUE),
                    tcp_nodelay=True,
                )

    def publish(self, publication: Publication) -> None:
        """Publish a message."""
        topic, message = publication.topic, publication.message
        latched = Quality(depth=1, reliable=True, latched=True)
        self.advertise(topic, message.__msgtype__, latched if topic in LATCHED_TOPICS else RESULTS)
        sample = self._type(message.__msgtype__)()
        sample.data = self.store.to_bytes(message)
        with self._lock:
            publisher = self._publishers.get(topic)
        if publisher is not None and not self.has_ended:  # None after ``close``
            publisher.publish(sample)

    def close(self) -> None:
        """Stop receiving, and leave the master; rospy cannot start again in this process."""
        for subscriber in self._subscribers:
            subscriber.unregister()
        self._subscribers.clear()
        if not self.has_ended:
            time.sleep(_FLUSH_S)
        with self._lock:
            self._is_closed = True
            self._publishers.clear()
        self._rospy.signal_shutdown("the node has ended")

    def _type(self, type_name: str) -> Any:
        """Return rospy's class of a type; its messages hold bytes."""
        full = full_name(type_name)
        if full not in self._types:
            self._types[full] = _make_type(self.store, full)
        return self._types[full]


def _import_rospy() -> Any:
    try:
        import rospy
    except ImportError as error:
        raise ModuleNotFoundError(
            f"rospy must be importable; got {error}: install ROS 1 and let this Python find it, "
            "see docs/node.md"
        ) from None
    return rospy


def _start_node(rospy: Any, name: str) -> None:
    import rosgraph

    if not rosgraph.is_master_online():
        uri = rosgraph.get_master_uri()
        raise ValueError(
            f"a ROS master must answer; got none at {uri}: run roscore, or set ROS_MASTER_URI"
        )
    # The command's own arguments are no remappings, and its signals end the node.
    rospy.init_node(name, argv=[], disable_signals=True)


def _bytes_of(message: Any) -> bytes:
    """Return the bytes of a message; rospy's own class comes on /clock, which it subscribes too."""
    buffer = io.BytesIO()
    message.serialize(buffer)
    return buffer.getvalue()


def _make_type(store: MessageStore, full: str) -> Any:
    from genpy import Message

    text, digest = store.types.generate_msgdef(full, ros_version=1)
    package, _, name = full.split("/")

    def serialize(self: Any, buffer: Any) -> None:
        """Write the bytes of a message, as rospy asks for them."""
        buffer.write(self.data)

    def deserialize(self: Any, data: bytes) -> Any:
        """Return a message of bytes."""
        self.data = data
        return self

    fields = {
        "__slots__": ["data"],
        "__init__": lambda self: None,
        "_slot_types": ["uint8[]"],
        "_type": f"{package}/{name}",
        "_md5sum": digest,
        "_full_text": text,
        "_has_header": False,  # else rospy would set a field of it
        "serialize": serialize,
        "deserialize": deserialize,
    }
    return type(name, (Message,), fields)
