"""Message classes of an installation of ROS 2, and the check that their fields are known ones.

rclpy needs the class of a topic's type even if messages come and go as bytes. A class with other
fields than those of the store, of an Autoware of another version for example, would make the bytes
of every message wrong, so the fields are compared before a topic is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bevstack.export.messages.store import MessageStore, full_name

# Names of rosbags -> of rosidl's Python classes (get_fields_and_field_types).
_BASES: Mapping[str, str] = MappingProxyType(
    {
        "bool": "boolean",
        "byte": "octet",
        "char": "uint8",
        "float32": "float",
        "float64": "double",
    }
)


def import_class(store: MessageStore, type_name: str) -> Any:
    """Return the installed class of a type, after a comparison of its fields with the store's.

    Args:
        store: types of a distribution of ROS 2.
        type_name: such as "sensor_msgs/msg/Image".

    Raises:
        ModuleNotFoundError: the package of the type cannot be imported.
        ValueError: the class, or one that it uses, has other fields.
    """
    found = _import(full_name(type_name))
    _compare(store, full_name(type_name), found, set())
    return found


def _import(full: str) -> Any:
    package, _, name = full.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ModuleNotFoundError(
            f"message {full} must be importable; got {error}: install the package {package} of "
            "ROS 2, and source its setup file"
        ) from None


def _compare(store: MessageStore, full: str, found: Any, compared: set[str]) -> None:
    """Compare a class and all that it uses."""
    from rosbags.interfaces import Nodetype

    if full in compared:
        return
    compared.add(full)
    definition = store.types.fielddefs[full][1]
    wanted = {field: _field_type(node) for field, node in definition}
    given = dict(found.get_fields_and_field_types())
    if list(wanted.items()) != list(given.items()):
        differing = [f"{k} {v}" for k, v in given.items() if wanted.get(k) != v]
        differing += [f"no {k}" for k in wanted if k not in given]
        raise ValueError(
            f"installed message {full} must have the fields of {store.distro} and Autoware "
            f"{store.autoware}; got {', '.join(differing) or 'another order'}: choose the "
            "distribution with --distro, or install the version of the package"
        )
    for _, (kind, detail) in definition:
        inner: Any = (kind, detail)
        while inner[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            inner = inner[1][0]
        if inner[0] == Nodetype.NAME:
            _compare(store, str(inner[1]), _import(str(inner[1])), compared)


def _field_type(node: Any) -> str:
    """Return a type as rosidl's classes write it."""
    from rosbags.interfaces import Nodetype

    kind, detail = node
    if kind == Nodetype.BASE:
        name, bound = str(detail[0]), int(detail[1])
        base = _BASES.get(name, name)
        return f"{base}<{bound}>" if bound else base
    if kind == Nodetype.NAME:
        return str(detail).replace("/msg/", "/")
    inner, size = _field_type(detail[0]), int(detail[1])
    if kind == Nodetype.ARRAY:
        return f"{inner}[{size}]"
    return f"sequence<{inner}, {size}>" if size else f"sequence<{inner}>"
