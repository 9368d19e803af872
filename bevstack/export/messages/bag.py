"""Writing of bags: MCAP and SQLite files of ROS 2, and bags of ROS 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bevstack import __version__
from bevstack.export.messages.store import MessageStore, full_name
from bevstack.files import naming, replacing, scratch_folder, write_atomically

SUFFIXES_OF_ROS = {1: (".bag",), 2: (".mcap", ".db3")}
# Topics whose last message a late subscriber must get: without its profile a player offers
# them as volatile, which no subscriber of static transforms matches.
LATCHED_TOPICS = ("/tf_static",)
_NAMES_OF_QOS_FROM = ("jazzy", "kilted")  # the earlier distributions write numbers


class Publication(NamedTuple):
    """A message on a topic at a time."""

    topic: str
    timestamp_us: int
    message: Any


def check_bag_path(path: Path, store: MessageStore) -> None:
    """Check that a file's suffix fits the distribution.

    Raises:
        ValueError: it does not.
    """
    suffixes = SUFFIXES_OF_ROS[1 if store.is_ros1 else 2]
    if path.suffix not in suffixes:
        raise ValueError(
            f"bag of {store.distro} must end in {' or '.join(suffixes)}; got {path}: change the "
            "name or the distro"
        )


def write_bag(path: Path, publications: Iterable[Publication], store: MessageStore) -> int:
    """Write messages in their order, and return their number; equal input gives equal bytes.

    Raises:
        ModuleNotFoundError: mcap or rosbags is not installed (the extra ``ros``).
        OSError: the file cannot be written.
        ValueError: the suffix does not fit the distribution.
    """
    check_bag_path(path, store)
    if path.suffix == ".mcap":
        return _write_mcap(path, publications, store)
    return (_write_ros1 if store.is_ros1 else _write_sqlite)(path, publications, store)


def _write_mcap(path: Path, publications: Iterable[Publication], store: MessageStore) -> int:
    from mcap.writer import Writer

    schemas: dict[str, int] = {}
    channels: dict[str, int] = {}
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file, _finished(Writer(file)) as writer:
        for topic, timestamp_us, message in publications:
            name = message.__msgtype__
            if name not in schemas:
                text = store.definition(name).encode()
                schemas[name] = writer.register_schema(full_name(name), "ros2msg", text)
            if topic not in channels:
                qos = {"offered_qos_profiles": _latched_text(store)}
                latched = qos if topic in LATCHED_TOPICS else {}
                channels[topic] = writer.register_channel(topic, "cdr", schemas[name], latched)
            time_ns = 1000 * timestamp_us
            writer.add_message(channels[topic], time_ns, store.to_bytes(message), time_ns, count)
            count += 1
    return count


@contextmanager
def _finished(writer: Any) -> Iterator[Any]:
    writer.start(profile="ros2", library=f"bevstack {__version__}")
    yield writer
    writer.finish()


def _write_sqlite(path: Path, publications: Iterable[Publication], store: MessageStore) -> int:
    from rosbags.rosbag2 import StoragePlugin, Writer

    version: Literal[8, 9] = 9 if store.distro in _NAMES_OF_QOS_FROM else 8
    count = 0
    with scratch_folder() as folder:
        inner = folder / "bag"
        connections: dict[str, Any] = {}
        made = Writer(inner, version=version, storage_plugin=StoragePlugin.SQLITE3)
        with naming(inner), made as writer:
            for topic, timestamp_us, message in publications:
                if topic not in connections:
                    connections[topic] = writer.add_connection(
                        topic,
                        message.__msgtype__,
                        typestore=store.types,
                        offered_qos_profiles=_latched_qos() if topic in LATCHED_TOPICS else (),
                    )
                writer.write(connections[topic], 1000 * timestamp_us, store.to_bytes(message))
                count += 1
        (database,) = inner.glob("*.db3")
        write_atomically(path, _chunks(database))
    return count


def _write_ros1(path: Path, publications: Iterable[Publication], store: MessageStore) -> int:
    from rosbags.rosbag1 import Writer

    count = 0
    with scratch_folder() as folder:
        bag = folder / "bag.bag"
        with naming(bag), Writer(bag) as writer:
            connections: dict[str, Any] = {}
            for topic, timestamp_us, message in publications:
                if topic not in connections:
                    connections[topic] = writer.add_connection(
                        topic,
                        message.__msgtype__,
                        typestore=store.types,
                        latching=1 if topic in LATCHED_TOPICS else None,
                    )
                writer.write(connections[topic], 1000 * timestamp_us, store.to_bytes(message))
                count += 1
        write_atomically(path, _chunks(bag))
    return count


def _chunks(path: Path) -> Iterator[bytes]:
    with naming(path), path.open("rb") as file:
        yield from iter(lambda: file.read(1 << 20), b"")


def _latched_qos() -> tuple[Any]:
    """Return the profile of latched topics: keep the last message, reliable, transient local."""
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )

    forever = QosTime(sec=9223372036, nsec=854775807)  # the longest time, as ROS writes it
    profile = Qos(
        history=QosHistory.KEEP_LAST,
        depth=1,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )
    return (profile,)


def _latched_text(store: MessageStore) -> str:
    """Return the same profile as YAML, as rosbag2 stores it beside a topic."""
    (profile,) = _latched_qos()
    named = store.distro in _NAMES_OF_QOS_FROM
    lines = []
    for name, value in profile._asdict().items():
        if isinstance(value, tuple):
            lines += [f"{name}:", f"  sec: {value[0]}", f"  nsec: {value[1]}"]
        elif isinstance(value, (bool, int)):
            lines.append(f"{name}: {str(value).lower()}")
        else:
            lines.append(f"{name}: {value.name.lower() if named else value.value}")
    return "\n".join(f"{'-' if row == 0 else ' '} {line}" for row, line in enumerate(lines))
