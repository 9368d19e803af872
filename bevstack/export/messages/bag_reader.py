"""Reading of bags of ROS 1 and ROS 2, whoever wrote them, with the types that the bag holds."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from bevstack.export.messages.store import MessageStore

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

SUFFIXES = (".mcap", ".db3", ".bag")


class RawMessage(NamedTuple):
    """A message as it stands in a bag."""

    topic: str
    type_name: str  # such as "sensor_msgs/msg/Image"
    time_ns: int  # of recording
    data: bytes


class BagReader:
    """Reader of one bag: a file, or a folder of rosbag2 with its ``metadata.yaml``.

    Args:
        path: the bag.
        store: types for a bag that holds none, as older bags of rosbag2 do.

    Raises:
        FileNotFoundError: the bag does not exist.
        ModuleNotFoundError: rosbags is not installed (the extra ``ros``).
        ValueError: the file is no bag, or is damaged.

    Example:
        >>> with BagReader(Path("drive.mcap"), open_store()) as bag:
        ...     for raw in bag.messages(["/odom"]):
        ...         odometry = bag.decode(raw)
    """

    def __init__(self, path: Path, store: MessageStore) -> None:
        from rosbags.highlevel import AnyReader

        if not path.exists():
            raise FileNotFoundError(f"bag must exist; got no file or folder {path}")
        if path.suffix not in SUFFIXES and not (path / "metadata.yaml").is_file():
            raise ValueError(
                f"bag must end in {', '.join(SUFFIXES)}, or be a folder with metadata.yaml; got "
                f"{path}"
            )
        self.path = path
        self.store = store
        with self._named_errors():
            self._reader: AnyReader = AnyReader([path], default_typestore=store.types)
            self._reader.open()

    def __enter__(self) -> BagReader:
        """Return the reader."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._reader.close()

    @property
    def topics(self) -> Mapping[str, str]:
        """Return the name of the type of each topic."""
        return {c.topic: c.msgtype for c in self._reader.connections}

    @property
    def span_ns(self) -> tuple[int, int]:
        """Return the times of the first and last message."""
        return self._reader.start_time, self._reader.end_time

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of some topics, or of all, in the order of their recording.

        Raises:
            ValueError: the bag is damaged here.
        """
        chosen = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not chosen:
            return
        with self._named_errors():
            for connection, time_ns, data in self._reader.messages(chosen):
                yield RawMessage(connection.topic, connection.msgtype, time_ns, data)

    def decode(self, raw: RawMessage) -> Any:
        """Return the message of raw bytes.

        Raises:
            ValueError: the bytes are no message of the topic's type.
        """
        with self._named_errors(f"message of {raw.topic} at {raw.time_ns} ns in "):
            return self._reader.deserialize(raw.data, raw.type_name)

    @contextmanager
    def _named_errors(self, part: str = "") -> Iterator[None]:
        """Turn the many errors of readers of damaged files into one that names the bag."""
        from rosbags.highlevel import AnyReaderError
        from rosbags.rosbag1 import ReaderError as ErrorOfRos1
        from rosbags.rosbag2 import ReaderError as ErrorOfRos2
        from rosbags.serde import SerdeError
        from rosbags.typesys import TypesysError

        own = (AnyReaderError, ErrorOfRos1, ErrorOfRos2, SerdeError, TypesysError)
        broken = (ValueError, KeyError, IndexError, EOFError, AssertionError, TypeError)
        try:
            yield
        except (*own, *broken, struct.error, OverflowError, MemoryError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"{part}{self.path} must be undamaged; got {reason[:300]}: record or copy it again"
            ) from error
