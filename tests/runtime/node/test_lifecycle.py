"""Transitions of the life cycle, their failures, and the numbers of lifecycle_msgs."""

from __future__ import annotations

import pytest

from bevstack.runtime.node.lifecycle import TRANSITIONS, Lifecycle, State

WHOLE = ("configure", "activate", "deactivate", "activate", "shutdown")


def test_the_states_follow_one_another_and_the_listener_learns_each_transition() -> None:
    done: list[str] = []
    seen: list[tuple[int, str, str]] = []
    work = {label: lambda label=label: done.append(label) for label in set(WHOLE)}
    life = Lifecycle(work, lambda t: seen.append((t.number, t.start.label, t.goal.label)))
    assert life.state is State.UNCONFIGURED
    states = [life.change(label).state.label for label in WHOLE]
    assert states == ["inactive", "active", "inactive", "active", "finalized"]
    assert done == list(WHOLE) and [number for number, _, _ in seen] == [1, 3, 4, 3, 7]
    assert life.transitions() == []


def test_a_failed_configuration_leaves_the_node_unconfigured_with_the_reason() -> None:
    def fail() -> None:
        raise FileNotFoundError("weights must exist;\n got none")

    life = Lifecycle({"configure": fail})
    change = life.change("configure")
    assert change.state is State.UNCONFIGURED
    assert change.reason == "configure failed: weights must exist; got none" == life.reason
    assert life.change("activate").reason.startswith(
        "transition must be one of configure, shutdown in the state unconfigured; got 'activate'"
    )


def test_a_fault_of_the_program_is_not_hidden() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        Lifecycle({"configure": fail}).change("configure")


def test_a_cleaned_up_node_may_be_configured_again() -> None:
    life = Lifecycle({})
    for label in ("configure", "cleanup", "configure", "shutdown"):
        assert life.change(label).reason == ""
    assert life.state is State.FINALIZED


def test_numbers_are_those_of_the_messages() -> None:
    rosbags = pytest.importorskip("rosbags.typesys", reason="needs rosbags")
    store = rosbags.get_typestore(rosbags.Stores.ROS2_HUMBLE)
    constants = store.types["lifecycle_msgs/msg/State"]
    for state in State:
        assert getattr(constants, f"PRIMARY_STATE_{state.name}") == state.value
    numbers = store.types["lifecycle_msgs/msg/Transition"]
    names = {
        1: "CONFIGURE",
        2: "CLEANUP",
        3: "ACTIVATE",
        4: "DEACTIVATE",
        5: "UNCONFIGURED_SHUTDOWN",
        6: "INACTIVE_SHUTDOWN",
        7: "ACTIVE_SHUTDOWN",
    }
    for transition in TRANSITIONS:
        assert getattr(numbers, f"TRANSITION_{names[transition.number]}") == transition.number
