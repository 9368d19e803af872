"""Bags: MCAP files of ROS 2, and bags of ROS 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bevstack import __version__
from bevstack.export.messages.store import MessageStore, full_name
from bevstack.files import naming, replacing, scratch_folder, write_atomically

SUFFIX_OF_ROS = {1: ".bag", 2: ".mcap"}


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
    suffix = SUFFIX_OF_ROS[1 if store.is_ros1 else 2]
    if path.suffix != suffix:
        raise ValueError(
            f"bag of {store.distro} must end in {suffix}; got {path}: change the name or the distro"
        )


def write_bag(path: Path, publications: Iterable[Publication], store: MessageStore) -> int:
    """Write messages in their order, and return their number; equal input gives equal bytes.

    Raises:
        ModuleNotFoundError: mcap or rosbags is not installed (the extra ``ros``).
        OSError: the file cannot be written.
        ValueError: the suffix does not fit the distribution.
    """
    check_bag_path(path, store)
    return (_write_ros1 if store.is_ros1 else _write_mcap)(path, publications, store)


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
                channels[topic] = writer.register_channel(topic, "cdr", schemas[name])
            time_ns = 1000 * timestamp_us
            writer.add_message(channels[topic], time_ns, store.to_bytes(message), time_ns, count)
            count += 1
    return count


@contextmanager
def _finished(writer: Any) -> Iterator[Any]:
    writer.start(profile="ros2", library=f"bevstack {__version__}")
    yield writer
    writer.finish()


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
                        topic, message.__msgtype__, typestore=store.types
                    )
                writer.write(connections[topic], 1000 * timestamp_us, store.to_bytes(message))
                count += 1
        write_atomically(path, _chunks(bag))
    return count


def _chunks(path: Path) -> Iterator[bytes]:
    with naming(path), path.open("rb") as file:
        yield from iter(lambda: file.read(1 << 20), b"")
