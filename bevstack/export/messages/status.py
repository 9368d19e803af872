"""Messages about the node itself: diagnostics and times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bevstack.export.messages.parts import make_header, make_time
from bevstack.export.messages.store import MessageStore

OK, WARN, ERROR = 0, 1, 2
_LEVELS = ("OK", "WARN", "ERROR")


@dataclass(frozen=True, kw_only=True)
class Status:
    """State of one task of a node, as diagnostic_msgs/DiagnosticStatus has it."""

    name: str  # "<node>: <task>"
    level: int  # OK, WARN or ERROR
    message: str
    hardware_id: str
    values: tuple[tuple[str, str], ...] = ()

    @property
    def level_name(self) -> str:
        """Return the level in words."""
        return _LEVELS[self.level]


def make_diagnostics(store: MessageStore, timestamp_us: int, statuses: Sequence[Status]) -> Any:
    """Return a DiagnosticArray."""
    return store["diagnostic_msgs/DiagnosticArray"](
        header=make_header(store, timestamp_us, ""),
        status=[
            store["diagnostic_msgs/DiagnosticStatus"](
                level=status.level,
                name=status.name,
                message=status.message,
                hardware_id=status.hardware_id,
                values=[
                    store["diagnostic_msgs/KeyValue"](key=key, value=value)
                    for key, value in status.values
                ],
            )
            for status in statuses
        ],
    )


def make_stamped_number(store: MessageStore, timestamp_us: int, number: float) -> Any:
    """Return a number with its time, as Autoware's nodes publish latencies; ROS 1 has no time."""
    kind = store[number_type(store)]
    if store.is_ros1:
        return kind(data=number)
    return kind(stamp=make_time(store, timestamp_us), data=number)


def number_type(store: MessageStore) -> str:
    """Return the type of a number with its time."""
    if store.is_ros1:
        return "std_msgs/msg/Float64"
    return "autoware_internal_debug_msgs/msg/Float64Stamped"


def make_transition_event(
    store: MessageStore,
    timestamp_us: int,
    transition: tuple[int, str],
    ends: Sequence[tuple[int, str]],
) -> Any:
    """Return a transition of a managed node of ROS 2.

    Args:
        store: types of ROS 2.
        timestamp_us: time of the transition.
        transition: its number and label.
        ends: number and label of the states before and after.
    """
    start, goal = (store["lifecycle_msgs/State"](id=number, label=name) for number, name in ends)
    number, label = transition
    return store["lifecycle_msgs/TransitionEvent"](
        timestamp=1000 * timestamp_us,
        transition=store["lifecycle_msgs/Transition"](id=number, label=label),
        start_state=start,
        goal_state=goal,
    )
