"""A store of message types: a distribution's own, and those of ``definitions``."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bevstack.export.messages.definitions import (
    AUTOWARE_GROUPS,
    AUTOWARE_MESSAGES,
    AUTOWARE_VERSIONS,
    TF_MESSAGE,
    VISION_MESSAGES_ROS1,
    VISION_MESSAGES_ROS2,
)

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

ROS1_DISTROS = ("noetic",)
ROS2_DISTROS = ("humble", "iron", "jazzy", "kilted")
DISTROS = (*ROS1_DISTROS, *ROS2_DISTROS)
DEFAULT_DISTRO = "humble"
DEFAULT_AUTOWARE = "1.8"


@dataclass(frozen=True)
class MessageStore:
    """Message types of one distribution, and their serialisation."""

    distro: str  # of DISTROS
    autoware: str  # of AUTOWARE_VERSIONS
    types: Typestore
    _classes: dict[str, Any] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )  # by name

    @property
    def is_ros1(self) -> bool:
        """Return True for a distribution of ROS 1."""
        return self.distro in ROS1_DISTROS

    def __getitem__(self, name: str) -> Any:
        """Return the class of a type such as "std_msgs/String"; it takes the fields by keyword.

        Raises:
            ValueError: the distribution does not have the type.
        """
        found = self._classes.get(name)
        if found is not None:
            return found
        full = full_name(name)
        if full not in self.types.types:
            raise ValueError(f"message type must be one of {self.distro}; got {name!r}")
        self._classes[name] = self.types.types[full]
        return self._classes[name]

    def to_bytes(self, message: Any) -> bytes:
        """Return a message as it stands in a bag: CDR in ROS 2."""
        serialise = self.types.serialize_ros1 if self.is_ros1 else self.types.serialize_cdr
        return bytes(serialise(message, message.__msgtype__))

    def from_bytes(self, data: bytes, name: str) -> Any:
        """Return the message of bytes as they stand in a bag: CDR in ROS 2.

        Raises:
            ValueError: the bytes are no message of the type.
        """
        from rosbags.serde import SerdeError

        read = self.types.deserialize_ros1 if self.is_ros1 else self.types.deserialize_cdr
        broken = (ValueError, IndexError, AssertionError, TypeError, OverflowError, struct.error)
        try:
            return read(data, full_name(name))
        except (SerdeError, MemoryError, *broken) as error:
            raise ValueError(
                f"message must be a {name}; got {len(data)} other bytes: check the sender's type"
            ) from error

    def definition(self, name: str) -> str:
        """Return the text of a type and of all types that it uses, as bags hold it."""
        text, _ = self.types.generate_msgdef(full_name(name), ros_version=1 if self.is_ros1 else 2)
        return text


def open_store(distro: str = DEFAULT_DISTRO, autoware: str = DEFAULT_AUTOWARE) -> MessageStore:
    """Return the types of a distribution, of Autoware (ROS 2 alone) and of vision_msgs.

    Raises:
        ModuleNotFoundError: rosbags is not installed (the extra ``ros``).
        ValueError: the distribution or the version is unknown.
    """
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    if distro not in DISTROS:
        raise ValueError(f"distro must be one of {', '.join(DISTROS)}; got {distro!r}")
    if autoware not in AUTOWARE_VERSIONS:
        raise ValueError(
            f"autoware must be one of {', '.join(AUTOWARE_VERSIONS)}; got {autoware!r}"
        )
    ros = 1 if distro in ROS1_DISTROS else 2
    types = get_typestore(Stores[f"ROS{ros}_{distro.upper()}"])
    added: dict[str, Any] = {}
    for name, text in _added_messages(ros, autoware).items():
        if name not in types.types:
            added |= get_types_from_msg(text, name)
    types.register(added)
    return MessageStore(distro, autoware, types)


def full_name(name: str) -> str:
    """Return "std_msgs/msg/String" for "std_msgs/String"."""
    return name if "/msg/" in name else name.replace("/", "/msg/")


def _added_messages(ros: int, autoware: str) -> Mapping[str, str]:
    if ros == 1:
        return {**VISION_MESSAGES_ROS1, **TF_MESSAGE}
    groups = AUTOWARE_GROUPS.get(autoware, AUTOWARE_GROUPS["1.8"])
    return {**AUTOWARE_MESSAGES, **groups, **VISION_MESSAGES_ROS2}


def make_blank(store: MessageStore, name: str) -> Any:
    """Return a message of zeros, empty texts and empty lists, whose fields may then be set.

    For messages whose fields differ between distributions, such as Marker.
    """
    from rosbags.interfaces import Nodetype

    fields: dict[str, Any] = {}
    definition: Any = store.types.fielddefs[full_name(name)][1]  # nested without end
    for field, (kind, detail) in definition:
        if kind == Nodetype.NAME:
            fields[field] = make_blank(store, str(detail))
        elif kind == Nodetype.BASE:
            fields[field] = _blank_value(str(detail[0]))
        else:
            inner_kind, inner = detail[0]
            is_number = inner_kind == Nodetype.BASE and str(inner[0]) != "string"
            count = int(detail[1]) if kind == Nodetype.ARRAY else 0
            fields[field] = np.zeros(count, dtype=str(inner[0])) if is_number else []
    return store[name](**fields)


def _blank_value(kind: str) -> Any:
    if kind == "string":
        return ""
    return False if kind == "bool" else 0.0 if kind.startswith("float") else 0
