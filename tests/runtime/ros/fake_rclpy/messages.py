"""Message classes with typed fields, as rosidl generates them for Python."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import numpy as np

from bevstack.export.messages.store import MessageStore

NAMES = {
    "bool": "boolean",
    "byte": "octet",
    "char": "uint8",
    "float32": "float",
    "float64": "double",
    "time": "builtin_interfaces/Time",
    "duration": "builtin_interfaces/Duration",
}
LIMITS = {
    f"{sign}int{bits}": (0, 2**bits) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
FIELD = re.compile(r"^([\w/]+)(<=\d+)?(\[(<=)?\d*\])?\s+(\w+)(\s+[^=].*)?$")


class Message:
    """Message whose fields take values of their types alone."""

    _FIELDS: ClassVar[dict[str, str]] = {}
    _CLASSES: ClassVar[dict[str, type[Message]]] = {}
    _NAME: ClassVar[str] = ""
    __slots__ = ("_values",)

    def __init__(self, **given: Any) -> None:
        assert set(given) <= set(self._FIELDS), f"Invalid arguments passed: {list(given)}"
        object.__setattr__(self, "_values", {})
        for field, kind in self._FIELDS.items():
            setattr(self, field, given.get(field, blank(kind, self._CLASSES)))

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        """Return the types by field, in order."""
        return dict(cls._FIELDS)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._FIELDS:
            raise AttributeError(f"{self._NAME} has no field {name}")
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._FIELDS:
            raise AttributeError(f"{self._NAME} has no field {name}")
        check(f"{self._NAME}.{name}", self._FIELDS[name], value, self._CLASSES)
        self._values[name] = value


def make_packages(store: MessageStore, missing: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return classes by package and name, from the text of each definition."""
    classes: dict[str, type[Message]] = {}
    packages: dict[str, dict[str, Any]] = {}
    for full in store.types.types:
        package, kind, name = full.split("/")
        if kind != "msg" or package in missing:
            continue
        fields = parse(store.definition(full).split("\n" + "=" * 80)[0], package)
        body = {"_FIELDS": fields, "_CLASSES": classes, "_NAME": f"{package}/{name}"}
        made = type(name, (Message,), {**body, "__slots__": ()})
        classes[f"{package}/{name}"] = made
        packages.setdefault(package, {})[name] = made
    return packages


def parse(text: str, package: str) -> dict[str, str]:
    """Return the fields of the text of a definition, with rosidl's names of types."""
    fields = {}
    for line in text.splitlines():
        found = FIELD.match(line.partition("#")[0].strip())
        if found is None or line.startswith("="):
            continue
        base, bound, many, _, field, _ = found.groups()
        kind = NAMES.get(base, base)
        if kind == base and base[0].isupper():
            kind = "std_msgs/Header" if base == "Header" else f"{package}/{base}"
        kind = kind.replace("/msg/", "/")
        if bound:
            kind += f"<{bound[2:]}>"
        if many:
            size = many[1:-1]
            fixed = size and not size.startswith("<=")
            limit = f", {size[2:]}" if size.startswith("<=") else ""
            kind = f"{kind}[{size}]" if fixed else f"sequence<{kind}{limit}>"
        fields[field] = kind
    return fields


def blank(kind: str, classes: dict[str, type[Message]]) -> Any:
    """Return the value that a new message has."""
    if kind.startswith("sequence<"):
        return []
    if kind.endswith("]"):
        inner, _, size = kind[:-1].partition("[")
        return [blank(inner, classes) for _ in range(int(size))]
    if kind in classes:
        return classes[kind]()
    if kind in LIMITS:
        return 0
    if kind.startswith("string"):
        return ""
    return {"boolean": False, "float": 0.0, "double": 0.0, "octet": b"\0"}[kind]


def check(name: str, kind: str, value: Any, classes: dict[str, type[Message]]) -> None:
    """Check a value as the setters of generated classes do."""
    if kind.startswith("sequence<") or kind.endswith("]"):
        assert not isinstance(value, (str, bytes)), name
        inner, _, size = kind.removesuffix("]").partition("[")
        if size:
            assert len(value) == int(size), name
        inner = inner.removeprefix("sequence<").removesuffix(">").partition(",")[0]
        if isinstance(value, np.ndarray):
            value = value.tolist()
        for item in value:
            check(name, inner, item, classes)
    elif kind in classes:
        assert isinstance(value, classes[kind]), f"{name} must be {kind}; got {type(value)}"
    elif kind in LIMITS:
        low, high = LIMITS[kind]
        assert isinstance(value, int) and low <= value < high, f"{name}: {value!r}"
    else:
        wanted = {"boolean": bool, "float": float, "double": float, "octet": bytes}.get(kind, str)
        assert isinstance(value, wanted), f"{name} must be {kind}; got {value!r}"
        assert kind != "octet" or len(value) == 1, name


def serialize(store: MessageStore, message: Message) -> bytes:
    """Return the CDR of a message."""
    return store.to_bytes(_to_own(store, message))


def deserialize(store: MessageStore, data: bytes, kind: type[Message]) -> Message:
    """Return the message of CDR."""
    return _from_own(store.from_bytes(data, kind._NAME), kind)


def _to_own(store: MessageStore, message: Message) -> Any:
    fields = {}
    for field, kind in message._FIELDS.items():
        fields[field] = _own_value(store, kind, getattr(message, field))
    return store[message._NAME](**fields)


def _own_value(store: MessageStore, kind: str, value: Any) -> Any:
    if isinstance(value, Message):
        return _to_own(store, value)
    if kind.startswith("sequence<") or kind.endswith("]"):
        inner = kind.removeprefix("sequence<").removesuffix(">").partition("[")[0]
        inner = inner.partition(",")[0]
        kinds = {"float": "float32", "double": "float64", "boolean": "bool", "octet": "uint8"}
        if inner in kinds or inner in LIMITS:
            return np.array(value, dtype=kinds.get(inner, inner))
        return [_own_value(store, inner, item) for item in value]
    return value[0] if kind == "octet" else value


def _from_own(message: Any, kind: type[Message]) -> Message:
    fields = {}
    for field, own in kind._FIELDS.items():
        fields[field] = _field_value(getattr(message, field), own, kind._CLASSES)
    return kind(**fields)


def _field_value(value: Any, kind: str, classes: dict[str, type[Message]]) -> Any:
    if kind in classes:
        return _from_own(value, classes[kind])
    if kind.startswith("sequence<") or kind.endswith("]"):
        inner = kind.removeprefix("sequence<").removesuffix(">").partition("[")[0]
        values = value.tolist() if isinstance(value, np.ndarray) else value
        return [_field_value(item, inner.partition(",")[0], classes) for item in values]
    return bytes([value]) if kind == "octet" else value
