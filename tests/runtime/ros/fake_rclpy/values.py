"""Parameters and qualities of service, with the rules of rclpy's classes."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any

HistoryPolicy = IntEnum("HistoryPolicy", {"SYSTEM_DEFAULT": 0, "KEEP_LAST": 1, "KEEP_ALL": 2})
ReliabilityPolicy = IntEnum(
    "ReliabilityPolicy", {"SYSTEM_DEFAULT": 0, "RELIABLE": 1, "BEST_EFFORT": 2}
)
DurabilityPolicy = IntEnum(
    "DurabilityPolicy", {"SYSTEM_DEFAULT": 0, "TRANSIENT_LOCAL": 1, "VOLATILE": 2}
)


class QoSProfile:
    """Quality of service; a history must have a depth."""

    __slots__ = ("depth", "durability", "history", "reliability")

    def __init__(self, **given: Any) -> None:
        assert set(given) <= set(self.__slots__), f"Invalid arguments: {list(given)}"
        if "history" not in given and "depth" not in given:
            raise ValueError("History and/or depth settings are required.")
        self.history = HistoryPolicy(given.get("history", HistoryPolicy.KEEP_LAST))
        self.depth = given["depth"]
        assert isinstance(self.depth, int) and self.depth >= 0
        reliable = given.get("reliability", ReliabilityPolicy.RELIABLE)
        self.reliability = ReliabilityPolicy(reliable)
        self.durability = DurabilityPolicy(given.get("durability", DurabilityPolicy.VOLATILE))

    def takes(self, offered: QoSProfile) -> bool:
        """Return True if a subscriber of this quality gets what a publisher offers."""
        asks = self.reliability is ReliabilityPolicy.RELIABLE
        keeps = self.durability is DurabilityPolicy.TRANSIENT_LOCAL
        return not (asks and offered.reliability is ReliabilityPolicy.BEST_EFFORT) and not (
            keeps and offered.durability is DurabilityPolicy.VOLATILE
        )


class Parameter:
    """Name, type and value; the type of an empty list is one of bytes, as rclpy infers it."""

    class Type(Enum):
        """Types with their numbers in rcl_interfaces."""

        NOT_SET = 0
        BOOL = 1
        INTEGER = 2
        DOUBLE = 3
        STRING = 4
        BYTE_ARRAY = 5
        BOOL_ARRAY = 6
        INTEGER_ARRAY = 7
        DOUBLE_ARRAY = 8
        STRING_ARRAY = 9

        @classmethod
        def from_parameter_value(cls, value: Any) -> Parameter.Type:
            """Return the type of a value."""
            if value is None:
                return cls.NOT_SET
            kinds = {bool: cls.BOOL, int: cls.INTEGER, float: cls.DOUBLE, str: cls.STRING}
            if type(value) in kinds:
                return kinds[type(value)]
            if isinstance(value, (list, tuple)):
                for kind, found in ((bytes, cls.BYTE_ARRAY), (bool, cls.BOOL_ARRAY)):
                    if all(isinstance(item, kind) for item in value):
                        return found
                for kind, found in (
                    (int, cls.INTEGER_ARRAY),
                    (float, cls.DOUBLE_ARRAY),
                    (str, cls.STRING_ARRAY),
                ):
                    if all(isinstance(item, kind) for item in value):
                        return found
            raise TypeError(f"The given value is not one of the allowed types '{value}'.")

    def __init__(self, name: str, type_: Type | None = None, value: Any = None) -> None:
        found = Parameter.Type.from_parameter_value(value)
        if type_ is not None and type_ is not found and value != []:
            raise ValueError(f"Type '{type_}' and value '{value}' do not agree")
        self._name, self._type, self._value = name, type_ or found, value

    @property
    def name(self) -> str:
        """Return the name."""
        return self._name

    @property
    def type_(self) -> Type:
        """Return the type."""
        return self._type

    @property
    def value(self) -> Any:
        """Return the value."""
        return self._value
