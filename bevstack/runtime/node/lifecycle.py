"""Life cycle of the node, with the states and transitions of ROS 2's managed nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class State(Enum):
    """State with its number in lifecycle_msgs/State."""

    UNCONFIGURED = 1
    INACTIVE = 2  # weights are loaded and topics subscribed; nothing is published but diagnostics
    ACTIVE = 3
    FINALIZED = 4

    @property
    def label(self) -> str:
        """Return the name that lifecycle_msgs gives it."""
        return self.name.lower()


@dataclass(frozen=True)
class Transition:
    """Transition with its number in lifecycle_msgs/Transition."""

    number: int
    label: str
    start: State
    goal: State


TRANSITIONS: tuple[Transition, ...] = (
    Transition(1, "configure", State.UNCONFIGURED, State.INACTIVE),
    Transition(2, "cleanup", State.INACTIVE, State.UNCONFIGURED),
    Transition(3, "activate", State.INACTIVE, State.ACTIVE),
    Transition(4, "deactivate", State.ACTIVE, State.INACTIVE),
    Transition(5, "shutdown", State.UNCONFIGURED, State.FINALIZED),
    Transition(6, "shutdown", State.INACTIVE, State.FINALIZED),
    Transition(7, "shutdown", State.ACTIVE, State.FINALIZED),
)
Work = Callable[[], None]  # of a transition; an error in it is a reason to go back
Listener = Callable[[Transition], None]


@dataclass(frozen=True)
class Change:
    """Outcome of a transition."""

    state: State
    reason: str  # "" after a success


class Lifecycle:
    """State of a node, changed by transitions.

    Args:
        work: what each transition does, by its label. If it raises a ``ValueError``, ``OSError``,
            ``RuntimeError`` or ``MemoryError``, the state stays, and the reason is kept.
        listener: is called after each transition that succeeded.
    """

    def __init__(self, work: Mapping[str, Work], listener: Listener | None = None) -> None:
        self._work = MappingProxyType(dict(work))
        self._listener = listener
        self.state = State.UNCONFIGURED
        self.reason = ""  # of the last failure; "" after a success

    def transitions(self) -> list[Transition]:
        """Return the transitions that are possible now."""
        return [transition for transition in TRANSITIONS if transition.start is self.state]

    def change(self, label: str) -> Change:
        """Run a transition; a failed or impossible one leaves the state."""
        possible = {transition.label: transition for transition in self.transitions()}
        if label not in possible:
            self.reason = (
                f"transition must be one of {', '.join(possible) or 'none'} in the state "
                f"{self.state.label}; got {label!r}"
            )
            return Change(self.state, self.reason)
        transition = possible[label]
        try:
            self._work.get(label, _nothing)()
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            self.reason = f"{label} failed: {' '.join(str(error).split())}"
            return Change(self.state, self.reason)
        self.state, self.reason = transition.goal, ""
        if self._listener is not None:
            self._listener(transition)
        return Change(self.state, "")


def _nothing() -> None:
    """Leave everything as it is."""
